"""Slots over HTTP: what is published, by whom, and how it is taken back."""

from __future__ import annotations

from pathlib import Path

from tests.api.conftest import Api
from tests.api.test_errors import is_problem
from tests.api.work import claim, succeed


def finished(api: Api, folder: Path, **changes: object) -> str:
    job = api.submit(**changes)
    succeed(api, claim(api, job["id"]), folder / job["id"])
    return str(job["id"])


def test_a_job_offers_its_result_and_the_slot_shows_it(api: Api, tmp_path: Path) -> None:
    job_id = finished(api, tmp_path, publish={"slot": "small", "perplexity": 0.02})
    job = api.client.get(f"/v1/jobs/{job_id}").json()
    assert job["publish"] == {"slot": "small", "perplexity": 0.02, "perplexity_of": None, "speed": 0.05}
    assert job["result"]["publication"]["decision"] == "published"
    slot = api.client.get("/v1/slots/small").json()
    assert slot["current"]["job_id"] == job_id
    assert slot["current"]["figures"]["perplexity"]
    assert api.client.get("/v1/slots").json()["items"] == [slot]


def test_a_wrong_offer_is_refused_with_its_place(api: Api) -> None:
    answer = api.client.post("/v1/jobs", json={**api.spec, "publish": {"slot": "../up", "speed": 2}})
    assert is_problem(answer, 422, "invalid-spec")
    assert {item["pointer"] for item in answer.json()["errors"]} == {"/publish/slot", "/publish/speed"}


def test_publish_and_rollback_by_hand_leave_a_history(api: Api, tmp_path: Path) -> None:
    first = finished(api, tmp_path, publish={"slot": "small"})
    second = finished(api, tmp_path)
    published = api.client.post(f"/v1/jobs/{second}/publish", json={"slot": "small"})
    assert (published.status_code, published.json()["decision"]) == (200, "published")
    assert is_problem(api.client.post(f"/v1/jobs/{second}/publish", json={"slot": "small"}), 409, "conflict")
    back = api.client.post(f"/v1/jobs/{second}/rollback", json={})
    assert (back.json()["decision"], back.json()["current_job"]) == ("rolled_back", first)
    page = api.client.get("/v1/slots/small/history", params={"limit": 2}).json()
    assert [(item["decision"], item["decided_by"]) for item in page["items"]] == [
        ("rolled_back", "operator"),
        ("published", "operator"),
    ]
    rest = api.client.get("/v1/slots/small/history", params={"before": page["next_before"]}).json()
    assert [(item["decision"], item["decided_by"]) for item in rest["items"]] == [("published", "gate")]


def test_what_cannot_be_published_is_refused(api: Api) -> None:
    job = api.submit()
    assert is_problem(
        api.client.post(f"/v1/jobs/{job['id']}/publish", json={"slot": "s"}), 404, "artifact-not-found"
    )
    assert is_problem(api.client.post(f"/v1/jobs/{job['id']}/rollback", json={}), 409, "conflict")
    for name in ("", "UP", "../x", "x" * 65):
        answer = api.client.post(f"/v1/jobs/{job['id']}/publish", json={"slot": name})
        assert is_problem(answer, 422, "invalid-request")
    for name in ("none", "UP", "..%5cx"):
        assert is_problem(api.client.get(f"/v1/slots/{name}"), 404, "resource-not-found")


def test_a_result_of_a_slot_is_not_deleted_and_the_slot_is_named(api: Api, tmp_path: Path) -> None:
    first = finished(api, tmp_path, publish={"slot": "small"})
    second = finished(api, tmp_path)
    api.client.post(f"/v1/jobs/{second}/publish", json={"slot": "small"})
    for job_id in (first, second):
        answer = api.client.delete(f"/v1/jobs/{job_id}")
        assert is_problem(answer, 409, "conflict")
        assert "the slot small" in answer.json()["detail"]
        assert api.client.get(f"/v1/jobs/{job_id}/report").status_code == 200
    assert api.client.post(f"/v1/jobs/{second}/rollback", json={}).status_code == 200
    assert api.client.delete(f"/v1/jobs/{second}").status_code == 204

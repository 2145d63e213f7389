"""Schedules over HTTP."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import SPEC, Api
from tests.api.test_errors import is_problem
from trsp_jobs import schedules

BODY = {"name": "weekly", "cron": "0 3 * * MON", "zone": "Europe/Berlin", "job": SPEC}
NOBODY = "sch_" + "0" * 26


def create(api: Api, **changes: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/schedules", json={**BODY, **changes})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_schedule_is_stored_whole_and_shown(api: Api) -> None:
    answer = api.client.post("/v1/schedules", json=BODY)
    made = answer.json()
    assert answer.headers["location"] == f"/v1/schedules/{made['id']}"
    assert (made["misfire"], made["overlap"], made["suspended"]) == ("skip", "forbid", False)
    assert made["job"]["calibration"]["sequences"] == 128
    assert made["next_fire_at"]
    shown = api.client.get(answer.headers["location"])
    assert shown.json() == made
    again = api.client.get(answer.headers["location"], headers={"If-None-Match": shown.headers["etag"]})
    assert again.status_code == 304


def test_everything_that_is_wrong_is_told_with_pointers_into_the_schedule(api: Api) -> None:
    wrong = {**BODY, "job": {**SPEC, "sparsity": 2, "priority": "x"}, "misfire": "never", "extra": 1}
    answer = api.client.post("/v1/schedules", json=wrong)
    assert is_problem(answer, 422, "invalid-spec")
    pointers = {item["pointer"] for item in answer.json()["errors"]}
    assert {"/job/target/sparsity", "/job/priority", "/misfire", "/extra"} <= pointers
    times = api.client.post("/v1/schedules", json={**BODY, "cron": "x", "zone": "Nowhere"})
    assert {item["pointer"] for item in times.json()["errors"]} == {"/cron", "/zone"}
    for body in ({}, {**BODY, "name": ""}, {**BODY, "name": "a\0"}, {**BODY, "job": []}):
        assert api.client.post("/v1/schedules", json=body).status_code == 422
    assert api.client.get("/v1/schedules").json()["items"] == []


def test_a_job_that_could_not_be_made_now_is_refused(api: Api) -> None:
    answer = api.client.post("/v1/schedules", json={**BODY, "job": {**SPEC, "model": "/etc"}})
    assert is_problem(answer, 422, "invalid-spec")
    assert answer.json()["errors"][0]["pointer"] == "/job/model"


def test_times_can_be_tried_out_and_previewed(api: Api) -> None:
    tried = api.client.post("/v1/schedules/preview", json={"cron": "0 12 * * *", "zone": "Asia/Tokyo"})
    assert len(tried.json()["times"]) == 5
    assert all(time.endswith("T03:00:00Z") for time in tried.json()["times"])
    assert api.client.post("/v1/schedules/preview", json={"cron": "x"}).status_code == 422
    made = create(api)
    found = api.client.get(f"/v1/schedules/{made['id']}/preview").json()["times"]
    assert found[0] == made["next_fire_at"]


def test_a_change_must_be_based_on_what_is_there(api: Api) -> None:
    made = create(api)
    address = f"/v1/schedules/{made['id']}"
    tag = api.client.get(address).headers["etag"]
    assert is_problem(api.client.patch(address, json={"name": "n"}), 428, "precondition-required")
    for wrong in ('"99"', "*", "nonsense"):
        answer = api.client.patch(address, json={"name": "n"}, headers={"If-Match": wrong})
        assert is_problem(answer, 412, "version-conflict")
    changed = api.client.patch(
        address, json={"cron": "0 0 1 1 *", "overlap": "allow"}, headers={"If-Match": tag}
    )
    assert changed.status_code == 200, changed.text
    assert (changed.json()["overlap"], changed.json()["job"]) == ("allow", made["job"])
    assert changed.json()["next_fire_at"] != made["next_fire_at"]
    again = api.client.patch(address, json={"name": "n"}, headers={"If-Match": tag})
    assert is_problem(again, 412, "version-conflict")
    refused = api.client.patch(address, json={"zone": "Mars"}, headers={"If-Match": changed.headers["etag"]})
    assert is_problem(refused, 422, "invalid-spec")


def test_pause_and_resume(api: Api) -> None:
    made = create(api)
    paused = api.client.post(f"/v1/schedules/{made['id']}/pause").json()
    assert (paused["suspended"], paused["next_fire_at"]) == (True, None)
    assert api.client.post(f"/v1/schedules/{made['id']}/pause").json() == paused
    resumed = api.client.post(f"/v1/schedules/{made['id']}/resume").json()
    assert (resumed["suspended"], resumed["next_fire_at"]) == (False, made["next_fire_at"])


def test_run_now_makes_a_job_and_rings(api: Api) -> None:
    made = create(api)
    answer = api.client.post(f"/v1/schedules/{made['id']}/run-now")
    fire = answer.json()
    assert (answer.status_code, fire["outcome"], fire["by_hand"]) == (202, "fired", True)
    assert api.dispatcher.rung == [fire["job_id"]]
    job = api.client.get(f"/v1/jobs/{fire['job_id']}").json()
    assert job["schedule_id"] == made["id"]
    assert is_problem(api.client.post(f"/v1/schedules/{made['id']}/run-now"), 409, "conflict")
    page = api.client.get(f"/v1/schedules/{made['id']}/fires").json()
    assert [item["job_id"] for item in page["items"]] == [fire["job_id"]]
    assert page["next_before"] is None


def test_the_history_comes_in_parts(api: Api) -> None:
    made = create(api, overlap="allow")
    for _ in range(3):
        api.client.post(f"/v1/schedules/{made['id']}/run-now")
    address = f"/v1/schedules/{made['id']}/fires"
    first = api.client.get(address, params={"limit": 2}).json()
    rest = api.client.get(address, params={"limit": 2, "before": first["next_before"]}).json()
    times = [item["fire_at"] for item in (*first["items"], *rest["items"])]
    assert times == sorted(times, reverse=True)
    assert (len(times), rest["next_before"]) == (3, None)
    assert api.client.get(address, params={"before": "2026-01-01T00:00:00"}).status_code == 422


def test_delete_and_what_is_not_there(api: Api) -> None:
    made = create(api)
    assert api.client.delete(f"/v1/schedules/{made['id']}").status_code == 204
    for name in (made["id"], NOBODY, "..%5c..%5cetc", "x"):
        assert is_problem(api.client.get(f"/v1/schedules/{name}"), 404, "resource-not-found")
    for verb in ("pause", "resume", "run-now"):
        assert api.client.post(f"/v1/schedules/{NOBODY}/{verb}").status_code == 404


def test_the_list_comes_in_parts(api: Api) -> None:
    ids = sorted((create(api)["id"] for _ in range(3)), reverse=True)
    first = api.client.get("/v1/schedules", params={"limit": 2}).json()
    rest = api.client.get("/v1/schedules", params={"limit": 2, "after": first["next_cursor"]}).json()
    assert [item["id"] for item in (*first["items"], *rest["items"])] == ids


def test_a_schedule_follows_the_name_of_a_registered_model(api: Api) -> None:
    api.client.post("/v1/models", json={"name": "small", "model": SPEC["model"]})
    made = create(api, job={**SPEC, "model": "small", "publish": {"slot": "s"}})
    assert made["job"]["model"] == "small"
    fire = api.client.post(f"/v1/schedules/{made['id']}/run-now").json()
    job = api.client.get(f"/v1/jobs/{fire['job_id']}").json()
    assert (job["spec"]["model"], job["publish"]["slot"]) == (SPEC["model"], "s")
    api.client.delete("/v1/models/small")
    with api.services.session() as session:
        assert schedules.get_schedule(session, made["id"]).spec["model"] == "small"
    assert is_problem(api.client.post(f"/v1/schedules/{made['id']}/run-now"), 422, "model-refused")

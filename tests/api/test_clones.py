"""Jobs made from others, and jobs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.cloning import changed
from tests.api.conftest import Api
from tests.api.work import claim, succeed

BODY = {
    "model": "m",
    "target": {"sparsity": 0.25},
    "calibration": {"set": "a", "seed": 0, "sequences": 8},
    "method": {"name": "trsp", "lambda1": 0.1},
    "labels": {"a": "1", "b": "2"},
}
CASES: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({}, {}),
    ({"target": {"layers_to_remove": 4}}, {"target": {"layers_to_remove": 4}}),
    ({"sparsity": 0.5}, {"target": None, "sparsity": 0.5}),
    ({"calibration": {"seed": 1}}, {"calibration": {"set": "a", "seed": 1, "sequences": 8}}),
    ({"calibration": "b"}, {"calibration": {"set": "b", "seed": 0, "sequences": 8}}),
    ({"calibration": {"seed": None}}, {"calibration": {"set": "a", "sequences": 8}}),
    ({"method": {"lambda1": 0.2}}, {"method": {"name": "trsp", "lambda1": 0.2}}),
    ({"method": {"name": "trsp", "norm": "l1"}}, {"method": {"name": "trsp", "lambda1": 0.1, "norm": "l1"}}),
    ({"method": "sleb"}, {"method": {"name": "sleb"}}),
    ({"labels": {"a": None, "c": "3"}}, {"labels": {"b": "2", "c": "3"}}),
    ({"labels": None}, {"labels": None}),
    ({"nonsense": 1}, {"nonsense": 1}),
)


@pytest.mark.parametrize(("changes", "differs"), CASES)
def test_changes_are_a_merge_patch(changes: dict[str, Any], differs: dict[str, Any]) -> None:
    before = repr(BODY)
    wanted = {name: value for name, value in {**BODY, **differs}.items() if value is not None}
    assert changed(BODY, changes) == wanted
    assert repr(BODY) == before


def test_a_clone_is_the_same_job_again(api: Api) -> None:
    job = api.submit(labels={"team": "a"}, priority=3, run_deadline=60)
    answer = api.client.post(f"/v1/jobs/{job['id']}/clone")
    clone = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{clone['id']}")
    assert clone["cloned_from"] == job["id"]
    for name in ("spec", "fingerprint", "labels", "priority", "run_deadline", "queue_deadline"):
        assert clone[name] == job[name], name
    assert api.dispatcher.rung == [job["id"], clone["id"]]


def test_a_clone_is_changed_and_checked_as_a_whole(api: Api) -> None:
    job = api.submit()
    address = f"/v1/jobs/{job['id']}/clone"
    clone = api.client.post(address, json={"target": {"layers_to_remove": 3}, "priority": 9}).json()
    assert (clone["spec"]["target"], clone["priority"]) == ({"layers_to_remove": 3}, 9)
    refused = api.client.post(address, json={"target": {"layers_to_remove": 300}, "prioritty": 1})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["suggestion"] == "priority"
    assert api.client.post(f"/v1/jobs/job_{'0' * 26}/clone").status_code == 404


def test_jobs_are_compared_by_their_reports(api: Api, tmp_path: Path) -> None:
    ids = [api.submit()["id"] for _ in range(2)]
    for number, job_id in enumerate(ids):
        succeed(api, claim(api, job_id), tmp_path / str(number))
    found = api.client.get("/v1/compare", params={"job": ids}).json()
    assert [job["id"] for job in found["jobs"]] == ids
    figures = {row["name"]: row for row in found["figures"]}
    report = api.client.get(f"/v1/jobs/{ids[0]}/report").json()
    assert figures["layers removed"]["values"] == [len(report["plan"]["removed_layers"])] * 2
    name, item = next(iter(report["perplexity"].items()))
    assert figures[f"perplexity/{name}"]["values"] == [item["pruned"]] * 2


def test_jobs_without_a_report_cannot_be_compared(api: Api) -> None:
    waiting = api.submit()["id"]
    answer = api.client.get("/v1/compare", params={"job": [waiting, waiting]})
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == ["/query/job/0", "/query/job/1"]
    assert api.client.get("/v1/compare", params={"job": [waiting]}).status_code == 422
    assert api.client.get("/v1/compare", params={"job": ["job_x", waiting]}).status_code == 404


def test_validate_tells_time_and_memory_once_jobs_have_finished(api: Api, tmp_path: Path) -> None:
    before = api.client.post("/v1/jobs/validate", json=api.spec).json()
    assert before["protected_layers"] == [0, 29]
    assert (before["estimate"]["seconds"], before["estimate"]["jobs"]) == (None, 0)
    succeed(api, claim(api, api.submit()["id"]), tmp_path / "r")
    after = api.client.post("/v1/jobs/validate", json=api.spec).json()["estimate"]
    assert after["jobs"] == 1
    rest = next(item for item in after["stages"] if item["stage"] == "rest")
    assert rest["seconds"]["low"] == rest["seconds"]["likely"] == rest["seconds"]["high"] > 0

"""Registered models over HTTP, and the allow-list that they can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.api.conftest import SPEC, Api
from tests.api.test_errors import is_problem
from tests.trsp_core.conftest import save_tiny

DEMO = {"name": "small", "model": "demo:smollm2-135m"}


def test_a_model_is_checked_once_and_pinned(api: Api) -> None:
    answer = api.client.post("/v1/models", json=DEMO)
    made = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/models/small")
    assert (made["model_type"], made["layers"], made["parameters"]) == ("llama", 30, 134_515_008)
    assert len(made["revision"]) == 64
    assert api.client.get("/v1/models/small").json() == made
    assert api.client.post("/v1/models", json=DEMO).json() == made
    assert api.client.get("/v1/models").json() == {"items": [made], "next_cursor": None}


def test_a_job_may_say_the_name(api: Api) -> None:
    api.client.post("/v1/models", json=DEMO)
    assert api.submit(model="small")["spec"]["model"] == DEMO["model"]
    tried = api.client.post("/v1/jobs/validate", json={**SPEC, "model": "small"}).json()
    assert tried["spec"]["model"] == DEMO["model"]


def test_a_name_stands_for_one_model(make_api: Callable[..., Api], tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny", "llama")
    api = make_api(file_roots=[tmp_path])
    api.client.post("/v1/models", json=DEMO)
    other = api.client.post("/v1/models", json={"name": "small", "model": str(tmp_path / "tiny")})
    assert is_problem(other, 409, "conflict")


def test_a_model_that_changed_since_is_refused(make_api: Callable[..., Api], tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny", "llama")
    api = make_api(file_roots=[tmp_path])
    api.client.post("/v1/models", json={"name": "tiny", "model": str(tmp_path / "tiny")})
    job = {**SPEC, "model": "tiny", "calibration": {"set": "python-docs", "sequence_length": 32}}
    job["evaluation"] = {"window_length": 32}
    assert api.client.post("/v1/jobs", json=job).status_code == 202
    config = tmp_path / "tiny" / "config.json"
    config.write_text(config.read_text() + "\n")
    answer = api.client.post("/v1/jobs", json=job)
    assert is_problem(answer, 422, "model-refused")
    assert "has changed since it was registered" in answer.json()["detail"]


def test_the_allow_list_lets_registered_models_in_and_no_others(make_api: Callable[..., Api]) -> None:
    api = make_api(registered_models_only=True)
    empty = api.client.post("/v1/jobs", json=SPEC)
    assert is_problem(empty, 422, "model-refused")
    assert "none is registered yet" in empty.json()["detail"]
    api.client.post("/v1/models", json=DEMO)
    assert api.client.post("/v1/jobs", json={**SPEC, "model": "small"}).status_code == 202
    assert api.client.post("/v1/jobs", json=SPEC).status_code == 202
    wrong = api.client.post("/v1/jobs", json={**SPEC, "model": "smal"}).json()["errors"][0]
    assert (wrong["pointer"], wrong["suggestion"]) == ("/model", "small")


def test_what_cannot_be_registered_is_refused(api: Api) -> None:
    for name in ("", "../up", "a/b", "UP", ".", "x" * 65):
        answer = api.client.post("/v1/models", json={**DEMO, "name": name})
        assert is_problem(answer, 422, "invalid-request")
    for model in ("/etc", "../../etc", "demo:none", "hf:nobody/nothing", "https://example.org/x"):
        answer = api.client.post("/v1/models", json={"name": "m", "model": model})
        assert is_problem(answer, 422, "model-refused")
    assert api.client.get("/v1/models").json()["items"] == []


def test_delete_and_what_is_not_there(api: Api) -> None:
    api.client.post("/v1/models", json=DEMO)
    assert api.client.delete("/v1/models/small").status_code == 204
    for name in ("small", "UP", "..%5cx"):
        assert is_problem(api.client.get(f"/v1/models/{name}"), 404, "resource-not-found")
    assert is_problem(api.client.delete("/v1/models/small"), 404, "resource-not-found")

"""The commands and the client's calls for schedules, slots, models and calibration sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api.conftest import SPEC
from tests.api.work import claim, succeed
from tests.trsp_cli.conftest import Said, Service
from trsp_cli.client import Client, Refused


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(SPEC))
    return path


def test_a_schedule_from_creation_to_deletion(
    service: Service, trsp: Callable[..., Said], spec_file: Path
) -> None:
    create = ("schedules", "create", "weekly", "--cron", "0 3 * * MON", "--spec", str(spec_file))
    made = trsp(*create, "--zone", "Europe/Berlin", "--slot", "small", "--json", url=service.url).json
    assert made["job"]["publish"]["slot"] == "small"
    listed = trsp("schedules", "list", url=service.url).out
    assert made["id"] in listed
    assert "Europe/Berlin" in listed
    updated = trsp("schedules", "update", made["id"], "--overlap", "allow", "--json", url=service.url).json
    assert (updated["overlap"], updated["cron"]) == ("allow", "0 3 * * MON")
    assert "suspended" in trsp("schedules", "pause", made["id"], url=service.url).out
    assert trsp("schedules", "resume", made["id"], "--json", url=service.url).json["suspended"] is False
    job_id = trsp("schedules", "run-now", made["id"], url=service.url).out.strip()
    assert job_id.startswith("job_")
    shown = trsp("schedules", "show", made["id"], url=service.url).out
    assert job_id in shown
    assert "run on request" in shown
    assert trsp("schedules", "delete", made["id"], url=service.url).code == 0
    assert trsp("schedules", "show", made["id"], url=service.url).code == 2


def test_a_schedule_that_cannot_be_is_refused_with_the_reason(
    service: Service, trsp: Callable[..., Said], spec_file: Path
) -> None:
    wrong = trsp(
        "schedules", "create", "x", "--cron", "61 * * * *", "--spec", str(spec_file), url=service.url
    )
    assert (wrong.code, "its minute cannot be read" in wrong.err) == (2, True)
    assert trsp("schedules", "create", "x", "--cron", "* * * * *", url=service.url).code == 2
    assert trsp("schedules", "update", "sch_x", "--slot", "s", url=service.url).code == 2
    assert trsp("schedules", "update", "sch_x", url=service.url).code == 2


def test_models_from_registration_to_deletion(service: Service, trsp: Callable[..., Said]) -> None:
    made = trsp("models", "register", "small", SPEC["model"], "--json", url=service.url).json
    assert made["layers"] == 30
    assert "small" in trsp("models", "list", url=service.url).out
    assert made["revision"] in trsp("models", "show", "small", url=service.url).out
    assert trsp("models", "delete", "small", url=service.url).code == 0
    assert trsp("models", "show", "small", url=service.url).code == 2


def test_a_text_from_upload_to_proof(service: Service, trsp: Callable[..., Said], tmp_path: Path) -> None:
    file = tmp_path / "my.jsonl"
    file.write_text(json.dumps({"text": "words"}) + "\n")
    reference = trsp("calibration", "upload", str(file), url=service.url).out.strip()
    set_id = reference.removeprefix("upload:")
    shown = trsp("calibration", "show", set_id, "--json", url=service.url).json
    assert (shown["name"], shown["kind"]) == ("my.jsonl", "jsonl")
    assert set_id in trsp("calibration", "list", url=service.url).out
    proof = trsp("calibration", "delete", set_id, "--json", url=service.url).json
    assert proof["erased_at"]
    assert trsp("calibration", "list", url=service.url).out.strip() == "no uploaded texts"
    assert set_id in trsp("calibration", "list", "--deleted", url=service.url).out
    assert trsp("calibration", "upload", str(tmp_path / "none"), url=service.url).code == 2


def test_the_client_publishes_and_takes_back(service: Service, client: Client, tmp_path: Path) -> None:
    ids = []
    for number in range(2):
        job = service.api.submit()
        succeed(service.api, claim(service.api, job["id"]), tmp_path / str(number))
        client.publish(job["id"], "small")
        ids.append(job["id"])
    assert client.slot("small")["current"]["job_id"] == ids[1]
    assert client.rollback(ids[1])["current_job"] == ids[0]
    assert client.slots()["items"][0]["current"]["job_id"] == ids[0]
    assert len(client.slot_history("small")["items"]) == 3
    with pytest.raises(Refused, match="no result before"):
        client.rollback(ids[0], "small")


def test_the_client_previews_times(client: Client) -> None:
    times = client.preview_times("0 12 * * *", "Asia/Tokyo")
    assert len(times) == 5
    assert times[0].endswith("T03:00:00Z")

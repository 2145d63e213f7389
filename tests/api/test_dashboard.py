"""The pages: what they show, without any script, and the forms on them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.dashboard import words
from api.dashboard.story import MOST_POINTS, Curve, Story
from tests.api.conftest import Api
from tests.api.work import claim, fail, say, succeed, tell, work_until
from trsp_core.progress import Progress
from trsp_jobs.leases import JobError
from trsp_jobs.models import Event


def page(api: Api, job_id: str) -> str:
    """Return a job's page."""
    answer = api.client.get(f"/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_empty_list_teaches(api: Api) -> None:
    text = api.client.get("/").text
    assert "No jobs yet" in text
    assert "trsp jobs submit demo:smollm2-135m" in text
    assert "curl http://127.0.0.1:8000/v1/jobs" in text
    assert "No worker is online" in text


def test_the_list_shows_each_job_at_a_glance(api: Api, tmp_path: Path) -> None:
    waiting = api.submit(labels={"team": "<b>"})
    done = api.submit()
    succeed(api, claim(api, done["id"]), tmp_path / "r")
    text = api.client.get("/").text
    assert "Waiting" in text
    assert "Succeeded" in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "−8" in text
    assert f"/jobs/{waiting['id']}" in text
    fragment = api.client.get("/", params={"fragment": True}).text
    assert "<html" not in fragment
    assert f"/jobs/{waiting['id']}" in fragment


def test_a_running_jobs_page_shows_stage_layers_curves_and_log(api: Api) -> None:
    job = api.submit()
    held = claim(api, job["id"])
    work_until(api, held, "calibrate")
    for step in range(1, 4):
        tell(
            api,
            held,
            Progress(
                "stage1",
                step,
                8,
                0.2,
                eta_seconds=75,
                message="round 1",
                metrics={"loss": 3.0 / step},
                layers={0: 1.0, 1: 0.25, 2: 0.5},
                chosen=(1,),
            ),
        )
    say(api, held, 0, b"<script>alert(1)</script>\n")
    text = page(api, job["id"])
    assert "step 3 of 8, about 1\u00a0min 15\u00a0s left" in text
    assert 'aria-current="step"' in text
    assert "Layer 1, gate weight 0.250, chosen as the 1st" in text
    assert 'aria-label="Loss in Choose layers: from 3.00 to 1.00"' in text
    assert "&lt;script&gt;alert" in text
    assert f'data-stream="/v1/jobs/{job["id"]}/events/stream?after=' in text
    assert "<html" not in api.client.get(f"/jobs/{job['id']}", params={"fragment": True}).text


def test_a_finished_jobs_page_holds_the_report_and_downloads(api: Api, tmp_path: Path) -> None:
    job = api.submit()
    succeed(api, claim(api, job["id"]), tmp_path / "r")
    text = page(api, job["id"])
    assert 'class="r-report"' in text
    assert f"/v1/jobs/{job['id']}/report?format=html" in text
    assert "data-stream" not in text
    assert api.client.get("/static/report.css").headers["content-type"].startswith("text/css")


def test_a_failed_jobs_page_says_why_and_what_may_help(api: Api) -> None:
    job = api.submit()
    problems = ({"pointer": "/model", "message": "is broken", "suggestion": "another"},)
    fail(api, claim(api, job["id"]), JobError("x", "It broke.", problems, "Try less."))
    text = page(api, job["id"])
    assert "It broke." in text
    assert "Try less." in text
    assert "/model" in text
    assert "another" in text
    assert f'action="/jobs/{job["id"]}/retry"' in text
    assert "/cancel" not in text


def test_pages_hold_nothing_inline(api: Api, tmp_path: Path) -> None:
    job = api.submit()
    succeed(api, claim(api, job["id"]), tmp_path / "r")
    for address in ("/", f"/jobs/{job['id']}", "/problems"):
        text = api.client.get(address).text
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=", text), address
        for found in re.findall(r'(?:src|href)="(/static/[^"#]+)', text):
            assert api.client.get(found).status_code == 200, found


def test_the_forms_act_and_come_back(api: Api) -> None:
    job = api.submit()
    same = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
    answer = api.client.post(f"/jobs/{job['id']}/cancel", headers=same, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job['id']}")
    assert "Canceled" in page(api, job["id"])
    api.client.post(f"/jobs/{job['id']}/retry", headers=same)
    assert api.client.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"
    assert api.dispatcher.rung == [job["id"], job["id"]]
    again = api.client.post(f"/jobs/{job['id']}/retry", headers=same)
    assert again.status_code == 409
    assert "does not allow this" in again.text
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert api.client.post(f"/jobs/{job['id']}/cancel", headers=foreign).status_code == 403


def event(sequence: int, stage: str, seconds: float, attempt: int = 1, **rest: object) -> Event:
    """Return a progress event that came some seconds after the first."""
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    data = {"stage": stage, "step": 1, "total": 2, "message": "", **rest}
    return Event(job_id="j", sequence=sequence, attempt=attempt, kind="progress", data=data, at=at)


def test_the_time_of_a_stage_counts_over_attempts_but_not_between_them() -> None:
    story = Story()
    story.take([event(1, "resolve", 0), event(2, "stage1", 2), event(3, "stage1", 10)])
    story.take([event(4, "stage1", 100, attempt=2), event(5, "stage1", 105, attempt=2)])
    assert story.seconds == {"resolve": 2.0, "stage1": 13.0}


def test_a_step_taken_again_replaces_its_point_and_curves_stay_small() -> None:
    curve = Curve()
    for step in (1, 2, 3, 2, 3):
        curve.add(step, step / 10)
    assert [point[0] for point in curve.points] == [1, 2, 3]
    long = Curve()
    for step in range(10_000):
        long.add(step, step)
    assert MOST_POINTS / 2 <= len(long.points) <= MOST_POINTS + 1


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"sparsity": 0.25}, "remove 25 % of the layers"),
        ({"layers_to_remove": 1}, "remove 1 layer"),
        ({"max_params": 100_000_000}, "at most 100.0\u00a0M parameters"),
        ({"speedup": 1.3}, "1.3× as fast"),
        ({"max_perplexity_ratio": 1.2}, "perplexity at most 1.2×"),
    ],
)
def test_targets_in_words(target: dict[str, float], said: str) -> None:
    assert words.target({"target": target}) == said

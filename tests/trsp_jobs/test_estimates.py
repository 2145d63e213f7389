"""What a job will take, by what others took; what nobody knows stays unknown."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from tests.trsp_jobs.conftest import SPEC, Submit
from trsp_core.config import CompressionSpec
from trsp_core.preflight import Preflight, preflight
from trsp_core.sources.policy import SourcePolicy
from trsp_core.workload import workload
from trsp_jobs import db, estimates
from trsp_jobs.estimates import Estimate, Span
from trsp_jobs.models import Job

pytestmark = pytest.mark.integration

EVALUATION = {"windows": 8, "window_length": 128}
Sessions = sessionmaker[Session]


def read_spec(**changes: Any) -> CompressionSpec:
    given = {**SPEC, "evaluation": EVALUATION, **changes}
    return CompressionSpec.from_dict({name: value for name, value in given.items() if value is not None})


def checked(spec: CompressionSpec) -> Preflight:
    return preflight(spec, SourcePolicy.from_environment())


def finish(sessions: Sessions, job_id: str, rate: float, device: str = "cpu", **changes: Any) -> None:
    """Make a job one that succeeded and took `rate` seconds for each unit of work."""
    spec = read_spec(**changes)
    found = checked(spec)
    parts = workload(
        spec, found.facts, count=found.layers_to_remove, windows=dict.fromkeys(spec.evaluation.perplexity, 8)
    )
    timings = {name: part.work * rate for name, part in parts.items() if name != "rest"}
    cost = {
        "device": device,
        "parts": {name: asdict(part) for name, part in parts.items()},
        "timings": {**timings, "surgery": parts["rest"].work * rate},
        "memory_needed": found.memory_bytes,
        "windows": {"python-docs": 8},
    }
    result = {"cost": cost, "peak_rss_bytes": round(found.memory_bytes * rate * 1e9)}
    with db.session_scope(sessions) as session:
        values = {"status": "succeeded", "attempt": 1, "result": result}
        session.execute(update(Job).where(Job.id == job_id).values(values))


def judge(sessions: Sessions, **changes: Any) -> Estimate:
    spec = read_spec(**changes)
    with db.session_scope(sessions) as session:
        return estimates.estimate(session, spec, checked(spec))


def test_without_finished_jobs_nothing_is_known(sessions: Sessions) -> None:
    found = judge(sessions)
    assert (found.seconds, found.memory_bytes, found.jobs) == (None, None, 0)
    assert [(item.stage, item.seconds, item.jobs) for item in found.stages] == [
        ("stage1", None, 0),
        ("stage2", None, 0),
        ("evaluate", None, 0),
        ("rest", None, 0),
    ]
    assert all(item.tokens for item in found.stages if item.stage != "rest")


def test_the_span_is_that_of_the_finished_jobs(sessions: Sessions, submit: Submit) -> None:
    for rate in (1e-9, 2e-9, 4e-9):
        finish(sessions, submit(), rate)
    found = judge(sessions)
    spec = read_spec()
    parts = workload(spec, checked(spec).facts, count=8, windows={"python-docs": 8})
    assert found.jobs == 3
    for item in found.stages:
        work = parts[item.stage].work
        assert item.jobs == 3
        assert item.seconds is not None
        assert asdict(item.seconds) == pytest.approx(asdict(Span(work * 1e-9, work * 2e-9, work * 4e-9)))
    assert found.seconds is not None
    assert found.seconds.likely == pytest.approx(2e-9 * sum(part.work for part in parts.values()))
    assert found.memory_bytes is not None
    assert found.memory_bytes.high == pytest.approx(4 * checked(spec).memory_bytes, rel=1e-6)


def test_a_longer_job_is_judged_by_a_shorter_one(sessions: Sessions, submit: Submit) -> None:
    finish(sessions, submit(), 1e-9)
    short = judge(sessions)
    long = judge(sessions, target={"layers_to_remove": 12}, sparsity=None, method={"stage2_steps": 800})
    assert short.seconds is not None
    assert long.seconds is not None
    assert long.seconds.likely > 2 * short.seconds.likely


def test_other_devices_other_methods_and_resumed_jobs_tell_nothing(
    sessions: Sessions, submit: Submit
) -> None:
    finish(sessions, submit(), 1e-9, device="cuda")
    other, resumed = submit(), submit()
    finish(sessions, other, 1e-9, method="shortgpt")
    finish(sessions, resumed, 1e-9)
    with db.session_scope(sessions) as session:
        session.execute(update(Job).where(Job.id == resumed).values(attempt=2))
    found = judge(sessions)
    stages = {item.stage: item for item in found.stages}
    assert found.jobs == 1
    assert found.seconds is None
    assert (stages["stage1"].seconds, stages["stage2"].seconds) == (None, None)
    assert stages["evaluate"].jobs == stages["rest"].jobs == 1


def test_the_windows_of_a_whole_set_are_those_of_the_last_job(sessions: Sessions, submit: Submit) -> None:
    whole = {"window_length": 128}
    assert {item.stage: item.tokens for item in judge(sessions, evaluation=whole).stages}["evaluate"] is None
    finish(sessions, submit(), 1e-9)
    stages = {item.stage: item for item in judge(sessions, evaluation=whole).stages}
    assert stages["evaluate"] == {item.stage: item for item in judge(sessions).stages}["evaluate"]


def test_work_grows_with_every_knob() -> None:
    def work(stage: str, **changes: Any) -> float:
        spec = read_spec(**changes)
        facts = checked(spec).facts
        return workload(spec, facts, count=8, windows={"python-docs": 8})[stage].work

    gates = {"candidates": "gates"}
    assert work("stage1", method={**gates, "stage1_steps": 12}) > work("stage1", method=gates)
    assert work("stage1", method=gates) > work("stage1")
    assert work("stage1", method={"verify_top": 8}) > work("stage1")
    assert work("stage2", method={"stage2_steps": 200}) > work("stage2")
    assert work("stage2") > work("stage2", method={"own_text": 0.05}) > work("stage2", method={"own_text": 0})
    assert work("stage2", method={"absorb": False}) < work("stage2")
    assert work("evaluate", evaluation={**EVALUATION, "window_length": 256}) > work("evaluate")
    assert work("evaluate", evaluation={**EVALUATION, "speed": True}) > work("evaluate")
    assert work("stage1", method="sleb") > work("stage1", method="shortgpt")
    spec = read_spec(method="shortgpt")
    facts = checked(spec).facts
    assert "stage2" not in workload(spec, facts, count=8, windows=None)
    assert "evaluate" not in workload(spec, facts, count=8, windows=None)
    bigger = replace(facts, layer_parameters=tuple(2 * item for item in facts.layer_parameters))
    assert workload(spec, bigger, count=8, windows=None)["stage1"].work > work("stage1", method="shortgpt")

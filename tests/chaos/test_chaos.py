"""Jobs while children, workers and servers are killed and taken away: each ends with one whole result."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import delete, update

from tests.chaos import verdict
from tests.chaos.blows import BAG, ONE_OF_EACH, Weather, plan
from tests.chaos.run import Options, run
from tests.chaos.system import running, wait_until
from trsp_jobs import db
from trsp_jobs.models import Attempt, Event

SEEDS = range(1, 6)


def test_a_plan_follows_from_its_seed_and_holds_every_kind() -> None:
    def first(seed: int) -> list[object]:
        blows = plan(seed, Weather(rounds=1))
        return [*blows]

    assert first(1) == first(1)
    assert first(1) != first(2)
    assert {kind: [blow.kind for blow in first(1)].count(kind) for kind in BAG} == BAG  # type: ignore[attr-defined]


@pytest.mark.integration
def test_twenty_jobs_survive_every_kind_of_blow() -> None:
    weather = Weather(bag=ONE_OF_EACH, rounds=1, mean_pause=1, store_seconds=3)
    small = Options(seed=0, jobs=20, weather=weather, most_seconds=200)
    result = run(small)
    assert sum(result.blows.values()) >= len(ONE_OF_EACH) - 1
    assert (result.succeeded, result.problems) == (20, [])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", SEEDS)
def test_two_hundred_jobs_survive(seed: int) -> None:
    result = run(Options(seed=seed))
    assert set(result.blows) == set(BAG)
    assert (result.succeeded, result.problems) == (200, [])


@pytest.mark.slow
def test_the_verdict_sees_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "CALM_SECONDS", 2)
    stray = tmp_path / "stray"
    stray.write_bytes(b"x")
    with running() as system, system.client() as client:
        ids = [client.submit(system.job(2))["id"] for _ in range(3)]
        assert [client.wait(job_id, timeout=120)["status"] for job_id in ids] == ["succeeded"] * 3
        assert verdict.problems(system, client, ids) == []
        first = [f"jobs/{job_id}/attempts/1" for job_id in ids]
        system.store.put_file(f"{first[0]}/stray", stray)
        system.store.put_file(f"{first[1]}/plan.json", stray)
        system.store.remove([f"{first[2]}/plan.json"])
        with db.session_scope(system.sessions) as session:
            session.execute(delete(Event).where(Event.job_id == ids[0], Event.sequence == 2))
            session.execute(update(Attempt).where(Attempt.job_id == ids[1]).values(outcome="crashed"))
        extra = client.submit(system.job(400))["id"]
        assert wait_until(lambda: client.get(extra)["status"] == "running", 60)
        said = "\n".join(verdict.problems(system, client, ids))
    wanted = [
        "4 jobs are stored, 3 were accepted",
        f"{ids[1]}: its attempts ended [(1, 'crashed')]",
        f"{extra} is running",
        f"{extra} has an attempt without an end",
        f"{ids[0]}: events are numbered [1, 3,",
        f"{first[0]}/stray is stored and no row names it",
        f"{first[1]}/plan.json has 2 bytes in its row, 1 in the store",
        f"{first[2]}/plan.json has 2 bytes in its row, None in the store",
        "still at work",
        "still held",
    ]
    assert [line for line in wanted if line not in said] == []

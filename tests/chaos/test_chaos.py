"""Jobs while children, workers and servers are killed and taken away: each ends with one whole result."""

from __future__ import annotations

import pytest

from tests.chaos.blows import BAG, plan
from tests.chaos.run import Options, run

SEEDS = range(1, 6)


def test_a_plan_follows_from_its_seed_and_holds_every_kind() -> None:
    def first(seed: int) -> list[object]:
        blows = plan(seed, 1)
        return [next(blows) for _ in range(sum(BAG.values()))]

    assert first(1) == first(1)
    assert first(1) != first(2)
    assert {kind: [blow.kind for blow in first(1)].count(kind) for kind in BAG} == BAG  # type: ignore[attr-defined]


@pytest.mark.integration
def test_twenty_jobs_survive_every_kind_of_blow() -> None:
    result = run(Options(seed=0, jobs=20, mean_pause=0.5, store_seconds=3, most_seconds=120))
    assert (result.succeeded, result.problems) == (20, [])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", SEEDS)
def test_two_hundred_jobs_survive(seed: int) -> None:
    result = run(Options(seed=seed))
    assert set(result.blows) == set(BAG)
    assert (result.succeeded, result.problems) == (200, [])

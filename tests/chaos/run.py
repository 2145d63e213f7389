"""One run: jobs are submitted and worked on while blows fall; then it is judged."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from tests.chaos import verdict
from tests.chaos.blows import Monkey, Weather
from tests.chaos.system import System, running, wait_until
from trsp_cli.client import FINAL, Client, Unreachable
from trsp_jobs import db
from trsp_jobs.models import Artifact, Attempt, Event


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is to be.

    Attributes:
        seed: Gives jobs, blows and times.
        jobs: How many are submitted.
        weather: What they go through.
        most_seconds: When the run is given up.
    """

    seed: int
    jobs: int = 200
    weather: Weather = Weather()
    most_seconds: float = 900


@dataclass(frozen=True, slots=True)
class Result:
    """What a run was and how it ended; `problems` is empty if all is well."""

    seed: int
    jobs: int
    seconds: float
    succeeded: int
    attempts: Mapping[str, int]
    events: int
    artifacts: int
    blows: Mapping[str, int]
    starts: Mapping[str, int]
    problems: Sequence[str]


def run(options: Options, logs: Path | None = None) -> Result:
    """Do one run on servers of its own.

    Args:
        options: What it is to be.
        logs: Folder in which the logs of the service's parts are kept.
    """
    began = time.monotonic()
    with running(logs) as system, system.client() as client:
        monkey = Monkey(system, options.seed, options.weather)
        monkey.start()
        ids = _submit(system, client, options)
        wait_until(lambda: monkey.is_through and _all_ended(client), options.most_seconds)
        monkey.rest()
        wait_until(lambda: _all_ended(client), options.most_seconds / 10)
        seconds = time.monotonic() - began
        problems = verdict.problems(system, client, ids)
        figures = _figures(system)
        problems += [f"{name} would not end" for name in system.keeper.stop()]
        problems += verdict.left_behind(system)
        starts = {part.name: part.starts for part in system.keeper.parts}
    return Result(
        options.seed,
        len(ids),
        round(seconds, 1),
        **figures,
        blows=dict(monkey.struck),
        starts=starts,
        problems=problems,
    )


def _submit(system: System, client: Client, options: Options) -> list[str]:
    """Submit the jobs one after the other, each under a key and again until it is accepted; return their ids."""
    draw = random.Random(-options.seed)
    ids = []
    for number in range(options.jobs):
        job = system.job(draw.randint(1, 12))
        ids.append(_accepted(client, job, f"chaos-{options.seed}-{number}"))
        time.sleep(draw.expovariate(5))
    return ids


def _accepted(client: Client, job: Mapping[str, Any], key: str) -> str:
    while True:
        try:
            return str(client.submit(job, idempotency_key=key)["id"])
        except Unreachable:
            time.sleep(0.5)


def _all_ended(client: Client) -> bool:
    try:
        return all(job["status"] in FINAL for job in client.every(limit=100))
    except Unreachable:
        return False


def _figures(system: System) -> dict[str, Any]:
    with db.session_scope(system.sessions) as session:
        outcomes = Counter(map(str, session.scalars(select(Attempt.outcome))))
        events = session.scalar(select(func.count()).select_from(Event))
        artifacts = session.scalar(select(func.count()).select_from(Artifact))
    return {
        "succeeded": outcomes["succeeded"],
        "attempts": dict(outcomes),
        "events": events,
        "artifacts": artifacts,
    }

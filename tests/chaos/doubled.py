"""Runs a part of the service so that each of its rings reaches the broker twice: `… api`, `… worker.housekeeping`."""

from __future__ import annotations

import runpy
import sys

from trsp_jobs.dispatch import CeleryDispatcher

_ring = CeleryDispatcher.ring


def ring_twice(self: CeleryDispatcher, job_id: str) -> None:
    _ring(self, job_id)
    _ring(self, job_id)


if __name__ == "__main__":
    CeleryDispatcher.ring = ring_twice  # type: ignore[method-assign]
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)

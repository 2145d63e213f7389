"""The real Celery worker with the tests' stub child: `celery -A tests.integration.stub_worker worker`."""

from __future__ import annotations

import sys
from pathlib import Path

import worker.tasks
from worker.app import app

STUB = Path(__file__).resolve().parents[1] / "worker" / "stub_child.py"

worker.tasks.CHILD_COMMAND = (sys.executable, "-S", str(STUB))

__all__ = ["app"]

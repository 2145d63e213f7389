"""Runs a worker with the options that suit it: `python -m worker`. More may be given, as to `celery worker`."""

from __future__ import annotations

import sys

from worker.app import app

OPTIONS = ("--without-gossip", "--without-mingle", "--without-heartbeat")

if __name__ == "__main__":
    app.worker_main(["worker", *OPTIONS, *sys.argv[1:]])

"""Downloads a job's model from S3 before its own process starts: `python -m worker.fetch REQUEST PIPE`.

This process knows the credentials for S3 and runs nothing of the model; the one that runs it knows no
credentials and finds the files in the cache. Speaks and ends as `worker.child` does.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from trsp_core.errors import Cancelled
from trsp_core.progress import Progress
from trsp_core.sources import materialize, resolve
from worker.child import Pipe, main, read_policy
from worker.scratch import write_whole


def fetch(request: dict[str, Any], pipe: Pipe, _: threading.Event) -> None:
    """Put the model into the cache and write down its revision, by which the child finds it."""
    signal.signal(signal.SIGTERM, _stop)
    model, policy = request["spec"]["model"], read_policy(request["policy"])
    pipe.progress(Progress("resolve", 0, 1, 0.0, message=f"downloading {model}"))
    source = resolve(model, policy)
    materialize(source, policy)
    write_whole(Path(request["fetched"]), json.dumps({model: source.revision}).encode())


def _stop(*_: object) -> None:
    """End at once: a download has no steps to stop between, and leaves nothing half-written."""
    raise Cancelled("stopped on request")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], fetch))

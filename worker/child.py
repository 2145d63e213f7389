"""The only process that imports torch: `python -m worker.child REQUEST PIPE`.

It reads what is to be done from the file REQUEST, works, and writes JSON lines to the inherited pipe number
PIPE: `{"type": "progress", "data": …}` and, where it gives up, `{"type": "error", "code": …, "message": …,
"problems": …}`. What it prints goes to the attempt's log. Exit codes: 0 done, 1 the work failed, 2 the input
was refused, 70 an error nobody foresaw, 130 stopped on request.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trsp_core.errors import Cancelled, InputRefused, OutOfMemory, TrspError
from trsp_core.progress import Progress
from trsp_core.scarcity import wants_memory
from trsp_core.sources.policy import SourcePolicy, UploadedText
from worker.ending import EXIT_CANCELED, EXIT_CRASHED, EXIT_DONE, EXIT_FAILED, EXIT_REFUSED


class Pipe:
    """The way to the supervisor."""

    def __init__(self, number: int) -> None:
        self._number = number

    def send(self, message: dict[str, Any]) -> None:
        """Write one message."""
        data = memoryview(json.dumps(message, default=str).encode() + b"\n")
        while data:
            data = data[os.write(self._number, data) :]

    def progress(self, event: Progress) -> None:
        """Write one sign of life."""
        self.send({"type": "progress", "data": event.to_dict()})

    def error(self, code: str, message: str, problems: Sequence[dict[str, Any]] = ()) -> None:
        """Write why the work ends."""
        self.send({"type": "error", "code": code, "message": message, "problems": list(problems)})


Action = Callable[[dict[str, Any], Pipe, threading.Event], None]


def main(arguments: Sequence[str], action: Action) -> int:
    """Do what the request says by way of `action`; return the exit code."""
    request, pipe = json.loads(Path(arguments[0]).read_bytes()), Pipe(int(arguments[1]))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        action(request, pipe, stop)
    except Cancelled:
        return EXIT_CANCELED
    except InputRefused as error:
        pipe.error(error.code, str(error), [problem.to_dict() for problem in error.problems])
        return EXIT_REFUSED
    except TrspError as error:
        traceback.print_exc()
        pipe.error(error.code, str(error))
        return EXIT_FAILED
    except Exception as error:
        traceback.print_exc()
        if wants_memory(error):
            pipe.error(OutOfMemory.code, f"the process ran out of memory ({type(error).__name__}: {error})")
            return EXIT_FAILED
        pipe.error("internal_error", f"{type(error).__name__}: {error}")
        return EXIT_CRASHED
    return EXIT_DONE


def work(request: dict[str, Any], pipe: Pipe, stop: threading.Event) -> None:
    """Compress as the request says."""
    from trsp_core.config import CompressionSpec
    from trsp_core.pipeline import compress

    compress(
        CompressionSpec.from_dict(request["spec"]),
        workdir=Path(request["workdir"]),
        on_progress=pipe.progress,
        should_stop=stop.is_set,
        policy=read_policy(request["policy"]),
    )


def read_policy(policy: Mapping[str, Any]) -> SourcePolicy:
    """Return which sources the request allows."""
    return SourcePolicy(
        hub_enabled=policy["hub_enabled"],
        roots=tuple(Path(root) for root in policy["roots"]),
        cache_dir=Path(policy["cache_dir"]),
        dataset_root=Path(policy["dataset_root"]) if policy["dataset_root"] else None,
        s3_enabled=policy["s3_enabled"],
        fetched=policy["fetched"],
        uploads={
            name: UploadedText(item["kind"], item["size"], Path(item["path"]))
            for name, item in policy["uploads"].items()
        },
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], work))

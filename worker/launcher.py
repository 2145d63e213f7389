"""Prepares a process and then becomes the program of a job. Knows only the standard library.

The process dies with its supervisor, is the first to go when memory runs out, and keeps to its limits.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "500"


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; only Linux can.

    Raises:
        SystemExit: If the parent is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the supervisor is gone")


def go_first_when_memory_runs_out() -> None:
    """Tell the kernel to rather kill this process than the supervisor."""
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def limit(kind: int, value: int | None) -> None:
    """Set a resource limit, no higher than the one in force."""
    if value is not None:
        ceiling = resource.getrlimit(kind)[1]
        value = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        resource.setrlimit(kind, (value, value))


def main(arguments: Sequence[str]) -> None:
    """Read the command line, prepare, and become the program after `--`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--memory", type=int)
    parser.add_argument("--file-size", type=int)
    parser.add_argument("program", nargs="+")
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    go_first_when_memory_runs_out()
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_AS, options.memory)
    limit(resource.RLIMIT_FSIZE, options.file_size)
    os.execvp(options.program[0], options.program)  # noqa: S606 - the program is the supervisor's own


if __name__ == "__main__":
    main(sys.argv[1:])

"""How an attempt ended: decided from what was seen, before anything is written."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from trsp_core.scarcity import speaks_of_memory
from trsp_jobs.leases import AttemptEnd, JobError

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_CRASHED = 70
EXIT_CANCELED = 130

OUT_OF_MEMORY = "out_of_memory"
_AGAIN = frozenset({OUT_OF_MEMORY, "storage_full", "internal_error"})
_ADVICE: Mapping[str, str] = {
    OUT_OF_MEMORY: "use fewer calibration sequences, a shorter sequence_length, dtype bfloat16 on CUDA, or "
    "trainable lora; or give the worker more memory",
    "storage_full": "make room in the worker's data folder",
    "numerical_failure": "use a smaller learning_rate or dtype float32",
    "target_out_of_reach": "ask for what the message says can be reached, or take another method",
    "internal_error": "look at the attempt's log; it holds the traceback",
}


class Stop(StrEnum):
    """Why the supervisor stopped a child."""

    LEASE_LOST = "lease_lost"
    CANCEL = "cancel"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"
    HANDED_OVER = "handed_over"
    ABANDONED = "abandoned"
    FAILED = "failed"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Ending:
    """An outcome with what was seen of the process; `error` stands for `failed` and `crashed`."""

    outcome: Outcome
    end: AttemptEnd
    error: JobError | None = None


_STOPPED: Mapping[Stop, Outcome] = {
    Stop.LEASE_LOST: Outcome.ABANDONED,
    Stop.CANCEL: Outcome.CANCELED,
    Stop.DEADLINE: Outcome.TIMED_OUT,
    Stop.SHUTDOWN: Outcome.HANDED_OVER,
}


@dataclass(frozen=True, slots=True)
class Scene:
    """What else was seen where a process ended.

    Attributes:
        killed: Whether the kernel killed some process for want of memory meanwhile.
        last_words: The end of its output.
        memory_limit: Bytes of address space that it was allowed; None without a limit.
    """

    killed: bool = False
    last_words: str = ""
    memory_limit: int | None = None


def judge(end: AttemptEnd, stop: Stop | None, said: JobError | None = None, scene: Scene = Scene()) -> Ending:
    """Decide how an attempt ended.

    Args:
        end: What was seen of the process; its exit code is known.
        stop: Why the supervisor stopped it; None if it ended by itself.
        said: The error that the child reported.
        scene: What else was seen.
    """
    if stop in (Stop.LEASE_LOST, Stop.CANCEL):
        return Ending(_STOPPED[stop], end)
    if end.exit_code == EXIT_DONE:
        return Ending(Outcome.DONE, end)
    if end.exit_code in (EXIT_REFUSED, EXIT_FAILED, EXIT_CRASHED) and said is not None:
        return _reported(end, said, scene)
    if stop is not None:
        return Ending(_STOPPED[stop], end)
    return Ending(Outcome.CRASHED, end, _crash(end.exit_code, scene))


def _reported(end: AttemptEnd, said: JobError, scene: Scene) -> Ending:
    advice = said.suggestion or _advice(said.code, scene)
    error = JobError(said.code, said.message, said.problems, advice)
    again = end.exit_code != EXIT_REFUSED and said.code in _AGAIN
    return Ending(Outcome.CRASHED if again else Outcome.FAILED, end, error)


def _crash(exit_code: int | None, scene: Scene) -> JobError:
    if exit_code == -signal.SIGKILL:
        sure = "for lack of memory" if scene.killed else "most likely for lack of memory"
        return _memory_error(f"the kernel killed the process, {sure}", scene)
    if exit_code is not None and exit_code < 0:
        message = f"the process was ended by {signal.Signals(-exit_code).name}"
    else:
        message = f"the process ended with code {exit_code} and said nothing"
    telling = [line for line in scene.last_words.splitlines() if speaks_of_memory(line)]
    if telling:
        return _memory_error(f"{message} after it got no memory: {telling[0].strip()[:200]}", scene)
    return JobError("crashed", message, suggestion=_ADVICE["internal_error"])


def _memory_error(message: str, scene: Scene) -> JobError:
    return JobError(OUT_OF_MEMORY, message, suggestion=_advice(OUT_OF_MEMORY, scene))


def _advice(code: str, scene: Scene) -> str | None:
    """Return what helps; of memory also which limit the operator has set."""
    advice = _ADVICE.get(code)
    if code != OUT_OF_MEMORY or scene.memory_limit is None:
        return advice
    return f"{advice}: its limit is TRSP_CHILD_MEMORY_BYTES={scene.memory_limit}"


def out_of_memory_kills(events: Path = Path("/sys/fs/cgroup/memory.events")) -> int | None:
    """Return how many processes of this control group ran out of memory and were killed; None if unknown."""
    try:
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None

"""How a field is named to a person at the command line: by the flag that sets it, not by its JSON pointer."""

from __future__ import annotations

import re
from dataclasses import replace

from trsp_core.errors import Problem

_WHOLE = {
    "/model": "MODEL",
    "/target": "TARGET",
    "/calibration": "--calibration",
    "/calibration/set": "--calibration",
    "/method": "--method",
    "/methods": "--methods",
    "/method/name": "--method",
}
_SECTIONS = ("target", "calibration", "method", "evaluation", "export", "dtype")
_FLAGS = frozenset(
    {
        "/target/sparsity",
        "/target/layers_to_remove",
        "/target/max_params",
        "/target/speedup",
        "/target/max_perplexity_ratio",
        "/calibration/sequences",
        "/calibration/sequence_length",
        "/calibration/seed",
        "/evaluation/perplexity",
        "/evaluation/tasks",
        "/evaluation/speed",
        "/evaluation/windows",
        "/evaluation/window_length",
        "/device",
        "/out",
        "/against",
        "/priority",
        "/queue_deadline",
        "/run_deadline",
        "/webhook",
    }
)
_TARGET_WORDS = re.compile(
    r"\b(sparsity|layers_to_remove|max_params|speedup|max_perplexity_ratio|protect_first|protect_last)\b"
)


def in_flags(problem: Problem) -> Problem:
    """Return the problem with flags in place of the fields of the job spec."""
    message = problem.message
    if problem.pointer.startswith("/target"):
        message = _TARGET_WORDS.sub(lambda match: _flag_of_word(match[1]), message)
    return replace(problem, pointer=flag_of(problem.pointer), message=message)


def flag_of(pointer: str) -> str:
    """Return the flag that sets a field; a pointer to no field of a job spec is returned as it is."""
    field = re.sub(r"/\d+$", "", pointer)
    if field in _WHOLE:
        return _WHOLE[field]
    section, *rest = field.removeprefix("/").split("/")
    if field in _FLAGS:
        return _flag((rest or [section])[-1])
    if not field.startswith("/") or section not in _SECTIONS:
        return pointer
    return "--set " + ".".join(rest if section == "method" else [section, *rest])


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _flag_of_word(word: str) -> str:
    return f"--set {word}" if word.startswith("protect") else _flag(word)

"""A job made from another: the other's spec and options with some fields changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trsp_jobs import models

_NAMED_BY = {"calibration": "set", "method": "name"}
"""Fields that a plain string may stand for, and what of them it says."""


def body_of(job: models.Job) -> dict[str, Any]:
    """Return the body that would create a job like this one."""
    options = {
        "labels": dict(job.labels),
        "priority": job.priority,
        "queue_deadline": job.queue_deadline,
        "run_deadline": job.run_deadline,
        "webhook": job.webhook_id,
        "publish": job.publish,
    }
    return {**job.spec, **{name: value for name, value in options.items() if value is not None}}


def changed(body: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's body with changes, as a JSON merge patch (RFC 7396): null takes a field away.

    Two things are replaced as a whole, since their parts do not go together: the target, by `target` or
    `sparsity`, and the options of a method by a method of another name.
    """
    given = {name: _spelled_out(name, value) for name, value in changes.items()}
    kept = dict(body)
    if "target" in given or "sparsity" in given:
        kept.pop("target", None)
    if _name(given.get("method")) not in (None, _name(kept.get("method"))):
        kept.pop("method", None)
    return _merge_into(kept, given)


def _spelled_out(name: str, value: Any) -> Any:
    return {_NAMED_BY[name]: value} if isinstance(value, str) and name in _NAMED_BY else value


def _name(method: Any) -> Any:
    return method.get("name") if isinstance(method, Mapping) else None


def _merge_into(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a merge patch; the inputs are left as they are."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            before = result.get(name)
            result[name] = _merge_into(before if isinstance(before, Mapping) else {}, value)
        else:
            result[name] = value
    return result

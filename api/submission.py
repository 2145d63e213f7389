"""What a client sends to create a job: the job spec with its shorthands, and what only the service knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from trsp_core.config import CompressionSpec, spec_schema
from trsp_core.errors import InvalidSpec, Problem, closest
from trsp_core.options import option, read, schema
from trsp_jobs.slots.gate import Offer

MAX_LABELS = 32
MAX_SECONDS = 90 * 24 * 3600
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _read_labels(value: Any, pointer: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidSpec(Problem(pointer, "must be an object of name: text.", None, "an object of strings"))
    if len(value) > MAX_LABELS:
        message = f"has {len(value)} labels; at most {MAX_LABELS} are taken."
        raise InvalidSpec(Problem(pointer, message, len(value), f"at most {MAX_LABELS}"))
    problems = [problem for name, text in value.items() if (problem := _label_problem(name, text, pointer))]
    if problems:
        raise InvalidSpec(*problems)
    return dict(value)


def _label_problem(name: str, text: Any, pointer: str) -> Problem | None:
    if not _LABEL.fullmatch(name):
        allowed = "1 to 63 letters, digits, '.', '_', '/' or '-', the first a letter or digit"
        return Problem(pointer, f"has the name {name[:80]!r}; a name is {allowed}.", name[:80], allowed)
    if not isinstance(text, str) or len(text) > 256:
        return Problem(f"{pointer}/{name.replace('/', '~1')}", "must be a text of at most 256 characters.")
    return None


def _read_offer(value: Any, pointer: str) -> Offer | None:
    return None if value is None else Offer.from_dict(value, pointer)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """What the service does with a job, beside the work itself."""

    labels: Mapping[str, str] = option(
        None,
        about="Names and texts of your own, to find jobs by.",
        reader=_read_labels,
        shape={"type": "object", "additionalProperties": {"type": "string", "maxLength": 256}},
    )
    priority: int = option(0, about="Jobs of a higher priority start first.", at_least=-100, at_most=100)
    queue_deadline: float | None = option(
        None,
        about="The job is given up if it has not started by then; never unless given.",
        unit="seconds after submission",
        above=0,
        at_most=MAX_SECONDS,
    )
    run_deadline: float | None = option(
        None,
        about="The job is stopped if it runs longer; never unless given.",
        unit="seconds after its start",
        above=0,
        at_most=MAX_SECONDS,
    )
    webhook: str | None = option(
        None,
        about="Id of a webhook of yours, wh_…, that hears of this job's end whatever else it listens to.",
    )
    publish: Offer | None = option(
        None,
        about="Slot that the result is offered to; it takes the slot unless it is worse by more than the margins.",
        reader=_read_offer,
        shape={"anyOf": [schema(Offer), {"type": "null"}]},
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON, by the names of `service.submit`."""
        return {**asdict(self), "publish": None if self.publish is None else self.publish.to_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """How a job is tried again."""

    from_scratch: bool = option(
        False,
        about="Begin again; else the job goes on from its checkpoint where that still lies on the worker.",
    )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RetryOptions:
        """Read the body of `POST /v1/jobs/ID/retry`.

        Raises:
            InvalidSpec: With one problem for every wrong field.
        """
        return read(cls, data, "")


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as asked for: what to compress, and what the service does with it."""

    spec: CompressionSpec
    options: ServiceOptions

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Submission:
        """Read the body of `POST /v1/jobs`.

        Raises:
            InvalidSpec: With one problem for every wrong field of either part.
        """
        problems = [*_unknown(data), *_unstorable(data)]
        known = {name: value for name, value in data.items() if name in _KNOWN}
        service = {name: value for name, value in known.items() if name in _SERVICE}
        spec = {name: value for name, value in known.items() if name not in _SERVICE}
        values: list[Any] = []
        for reader, part in ((CompressionSpec.from_dict, spec), (_read_options, service)):
            try:
                values.append(reader(part))
            except InvalidSpec as error:
                problems.extend(error.problems)
        if problems:
            raise InvalidSpec(*problems)
        return cls(*values)


_SERVICE = tuple(item.name for item in fields(ServiceOptions))
_KNOWN = (*spec_schema()["properties"], *_SERVICE)


def _read_options(data: Mapping[str, Any]) -> ServiceOptions:
    return read(ServiceOptions, {"labels": {}, **data}, "")


def _unknown(data: Mapping[str, Any]) -> list[Problem]:
    message = f"is not a known field; known are {', '.join(_KNOWN)}."
    return [
        Problem(f"/{_escape(name)}", message, None, _KNOWN, closest(name, _KNOWN))
        for name in data
        if name not in _KNOWN
    ]


def _unstorable(data: Any) -> list[Problem]:
    """Find texts that PostgreSQL's JSON cannot hold: NUL and lone surrogates."""
    message = "holds a NUL character or half of a surrogate pair; leave it out."
    return [
        Problem(pointer, message, None, "text without NUL and lone surrogates")
        for pointer, text in _texts(data, "")
        if _UNSTORABLE.search(text)
    ]


def _texts(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield pointer, name
            yield from _texts(item, f"{pointer}/{_escape(_UNSTORABLE.sub('?', name))}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{pointer}/{index}")


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def submission_schema() -> dict[str, Any]:
    """Return the JSON Schema of the body: the job spec's, with the service's own fields."""
    result = spec_schema()
    service = schema(ServiceOptions)["properties"]
    service["labels"]["default"] = {}
    result["properties"] = {**result["properties"], **service}
    result["title"] = "JobRequest"
    result["examples"] = list(EXAMPLES.values())
    return result


def clone_schema() -> dict[str, Any]:
    """Return the JSON Schema of a clone's changes: nothing is required, and null takes a field away."""
    fields_of_job = submission_schema()["properties"]
    return {
        "title": "CloneRequest",
        "type": "object",
        "properties": {
            name: {"description": item.get("description", "")} for name, item in fields_of_job.items()
        },
        "examples": [{"target": {"layers_to_remove": 4}, "calibration": {"seed": 1}, "labels": {"try": "2"}}],
    }


def retry_schema() -> dict[str, Any]:
    """Return the JSON Schema of the body that says how to try again."""
    return {**schema(RetryOptions), "title": "RetryRequest"}


EXAMPLES: Mapping[str, dict[str, Any]] = {
    "A whole job in three fields": {
        "model": "demo:smollm2-135m",
        "sparsity": 0.25,
        "calibration": "python-docs",
    },
    "Every part said": {
        "model": "hf:meta-llama/Llama-2-7b-hf@main",
        "target": {"layers_to_remove": 8},
        "calibration": {"set": "wikitext2", "sequences": 128, "sequence_length": 2048, "seed": 0},
        "method": {"name": "trsp", "lambda1": 0.005, "lambda2": 0.001, "stage2_steps": 100},
        "evaluation": {"perplexity": ["wikitext2", "ptb"], "speed": True},
        "labels": {"team": "research"},
        "priority": 5,
        "run_deadline": 86400,
    },
}

"""What is to be compared: the methods on one model, one target, one calibration batch. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from trsp_core import registry
from trsp_core.config import (
    Calibration,
    CompressionSpec,
    Evaluation,
    MethodSpec,
    Target,
    read_calibration,
    read_method,
)
from trsp_core.errors import InvalidSpec, Problem
from trsp_core.method_options import BaselineOptions, TrspOptions, TuneOptions, stage2_of
from trsp_core.options import option, read

DENSE = "dense"
DENSE_TUNED = "dense tuned with the same budget"
_STANDS_IN = "last"
"""A reference row has a plan of no layers, so that its method only gives what follows the choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row to be made.

    Attributes:
        label: Its name in the table; two rows of one method with other options differ by it.
        method: Method and options.
        reference: Whether no layer goes: the row shows what there is to lose, or what the text alone gives.
    """

    label: str
    method: MethodSpec
    reference: bool = False

    def described(self) -> dict[str, Any]:
        """Return name and options as JSON types; of a reference only those that it has a use for."""
        options = asdict(self.method.options)
        if not self.reference:
            return {"name": self.method.name, **options}
        name = self.method.name.replace(_STANDS_IN, DENSE)
        own = {item.name for item in fields(TuneOptions)}
        return {"name": name, **{key: value for key, value in options.items() if key in own}}


def _read_entries(value: Any, pointer: str) -> tuple[Entry, ...]:
    if not isinstance(value, (list, tuple)):
        raise InvalidSpec(Problem(pointer, "must be a list of methods.", repr(value)))
    problems: list[Problem] = []
    found = [entry for entry in (_entry(item, pointer, n, problems) for n, item in enumerate(value)) if entry]
    if problems:
        raise InvalidSpec(*problems)
    return tuple(found)


def _entry(value: Any, pointer: str, place: int, problems: list[Problem]) -> Entry | None:
    """Read one row, a method's name or an object with a label beside its options; keep what is wrong."""
    at = f"{pointer}/{place}"
    options = dict(value) if isinstance(value, Mapping) else value
    label = options.pop("label", None) if isinstance(options, dict) else None
    try:
        method = read_method(options, at)
    except InvalidSpec as error:
        problems.extend(error.problems)
        return None
    if label is not None and not (isinstance(label, str) and label.strip() and label.isprintable()):
        problems.append(Problem(f"{at}/label", "must be a line of text.", repr(label)))
        return None
    return Entry(label=label or method.name, method=method)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRequest:
    """A whole comparison: same request, same machine, same figures but for the times."""

    model: str = option(about="The model, a reference as in a job spec.")
    target: Target = option(
        about="How far each method goes.", reader=lambda value, pointer: read(Target, value, pointer)
    )
    calibration: Calibration = option(about="The one batch that all read.", reader=read_calibration)
    methods: tuple[Entry, ...] = option(about="The rows, references aside, in order.", reader=_read_entries)
    evaluation: Evaluation = option(
        Evaluation(),
        about="The texts that judge; no speed.",
        reader=lambda value, pointer: read(Evaluation, value, pointer),
    )
    in_domain: tuple[str, ...] = option(
        (),
        about="Evaluation sets of the calibration's own domain; unless given those that calibration names too.",
    )
    device: str = option("auto", about="auto, cpu, cuda or cuda:N.")
    dtype: str = option(
        "auto",
        about="Precision of the work, as in a job spec.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )

    def __post_init__(self) -> None:
        problems = [*self._twice(), *self._strangers()]
        if self.evaluation.speed is not None:
            message = "is not measured by a comparison; leave it out and ask `trsp evaluate` for it."
            problems.append(Problem("/evaluation/speed", message, True))
        if not self.methods:
            problems.append(Problem("/methods", "must be a list of at least one method.", []))
        if problems:
            raise InvalidSpec(*problems)
        self.spec_of(self.entries[0])

    def _twice(self) -> list[Problem]:
        taken = [DENSE, DENSE_TUNED]
        problems = []
        for place, entry in enumerate(self.methods):
            if entry.label in taken:
                message = f"is {entry.label!r}, which another row has; give each row a label of its own."
                problems.append(Problem(f"/methods/{place}/label", message, entry.label))
            taken.append(entry.label)
        return problems

    def _strangers(self) -> list[Problem]:
        known = self.evaluation.perplexity
        return [
            Problem(f"/in_domain/{place}", f"is {name!r}, which is no evaluation set.", name, known)
            for place, name in enumerate(self.in_domain)
            if name not in known
        ]

    @property
    def home_texts(self) -> tuple[str, ...]:
        """The evaluation sets of the calibration's domain."""
        used = {str(reference) for reference in self.calibration.references()}
        return self.in_domain or tuple(name for name in self.evaluation.perplexity if name in used)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All rows in order: the dense model, it tuned where any method takes gradient steps, the methods."""
        dense = Entry(
            label=DENSE, method=MethodSpec(name=_STANDS_IN, options=BaselineOptions()), reference=True
        )
        budget = self.budget()
        tuned = () if budget is None else (_tuned(budget),)
        return (dense, *tuned, *self.methods)

    def budget(self) -> TrspOptions | None:
        """Return the largest gradient budget among the methods; None where none takes a step."""
        found = (stage2_of(entry.method.options) for entry in self.methods)
        taken = [item for item in found if item is not None]
        sequences = self.calibration.sequences
        return max(taken, key=lambda item: item.steps_for(sequences) * item.batch_sequences, default=None)

    def spec_of(self, entry: Entry) -> CompressionSpec:
        """Return the job that a row is one half of."""
        return CompressionSpec(
            model=self.model,
            target=self.target,
            calibration=self.calibration,
            method=entry.method,
            evaluation=self.evaluation,
            device=self.device,
            dtype=self.dtype,
        )

    def unprotected(self) -> CompressionSpec:
        """Return the job of a method that any target suits, so that it is refused only what all would be."""
        free = MethodSpec(name="sleb", options=BaselineOptions(protect_first=0, protect_last=0))
        return self.spec_of(replace(self.entries[0], method=free))

    @classmethod
    def from_dict(cls, data: Any) -> ComparisonRequest:
        """Read the JSON form; a method is a name, or an object of name, label and options.

        Raises:
            InvalidSpec: With one problem for every wrong field.
        """
        return read(cls, data, "")

    def to_dict(self) -> dict[str, Any]:
        """Return the full JSON form: every option with its value."""
        data = asdict(self)
        data["target"] = {self.target.kind: getattr(self.target, self.target.kind)}
        data["methods"] = [{"label": entry.label, **entry.described()} for entry in self.methods]
        return dict(json.loads(json.dumps(data)))

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON form: equal requests, equal fingerprints."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _tuned(budget: TrspOptions) -> Entry:
    """Return the dense model under plain fine-tuning with the same steps, batch, rate and trained weights."""
    name = f"{_STANDS_IN}+tune"
    options = registry.METHODS[name].options(
        **{item.name: getattr(budget, item.name) for item in fields(TuneOptions)}
    )
    return Entry(label=DENSE_TUNED, method=MethodSpec(name=name, options=options), reference=True)

"""One row's work as it is handed to its process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trsp_core.config import CompressionSpec
from trsp_core.preflight import Preflight
from trsp_core.results import ModelFacts
from trsp_core.sources import Source


@dataclass(frozen=True, slots=True)
class RowTask:
    """What the process needs; everything was read and checked before.

    Attributes:
        spec: The job that the row is one half of.
        checked: What it will do.
        reference: Whether no layer goes.
        folder: The comparison's output folder, which holds the inputs.
        workdir: Where the row works; new and empty.
        threads: torch's threads.
    """

    spec: CompressionSpec
    checked: Preflight
    reference: bool
    folder: Path
    workdir: Path
    threads: int

    @property
    def answer(self) -> Path:
        """The file that the outcome is written to."""
        return self.workdir / "answer.json"

    def to_dict(self) -> dict[str, Any]:
        """Return the task as JSON types."""
        source = {**asdict(self.checked.source), "path": str(self.checked.source.path)}
        return {
            "spec": self.spec.to_dict(),
            "checked": {**self.checked.to_dict(), "source": source},
            "reference": self.reference,
            "folder": str(self.folder),
            "workdir": str(self.workdir),
            "threads": self.threads,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RowTask:
        """Read what `to_dict` wrote."""
        source = Source(**{**data["checked"]["source"], "path": Path(data["checked"]["source"]["path"])})
        facts = ModelFacts.from_dict(data["checked"]["facts"])
        return cls(
            CompressionSpec.from_dict(data["spec"]),
            Preflight(**{**data["checked"], "source": source, "facts": facts}),
            data["reference"],
            Path(data["folder"]),
            Path(data["workdir"]),
            data["threads"],
        )

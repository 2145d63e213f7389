"""What an export format is: refuses before any work, writes beside the model folder, proves what it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trsp_core.config import Export
from trsp_core.progress import StopFn, never


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from, as the exported file says it.

    Attributes:
        name: The source's name.
        kept: Source index of each layer; empty where no layer was removed.
        layers: Layers of the source.
    """

    name: str
    kept: tuple[int, ...] = ()
    layers: int = 0


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written and proved.

    Attributes:
        file: Its name.
        note: One sentence for the report: what was checked, with its figures.
    """

    file: str
    note: str


class Exporter(Protocol):
    """One format; `registry.EXPORTS` names it and its torch-free check of a source."""

    def check(self, folder: Path) -> None:
        """Refuse a model folder whose result could not be exported.

        Raises:
            ModelRefused: With the reason.
        """

    def export(
        self, folder: Path, out: Path, options: Export, origin: Origin, *, should_stop: StopFn = never
    ) -> Exported:
        """Write the model in `folder` into the folder `out`, whole or not at all, and prove it.

        A file of that name is taken as written by an earlier attempt and only proved.

        Raises:
            ModelRefused: If the model cannot be carried.
            RoundTripFailed: If the file is not the model.
            StorageFull: If the disk has too little room.
            Cancelled: If `should_stop` said so.
        """

"""The hub's data sets that papers calibrate and measure on, each by its custom.

Each can be pointed to a local folder of the same form: `SourcePolicy.dataset_root` (`TRSP_DATASETS`) with a
folder of the set's name that holds, for each split, parquet, JSONL or gzipped JSONL files whose names begin
with the split's name (`wikitext2/train-00000.parquet`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from trsp_core.calibration.base import Split, refused
from trsp_core.calibration.files import missing_field
from trsp_core.sets import SetReference
from trsp_core.sources import SourcePolicy
from trsp_core.sources.policy import HUB_SWITCH

_BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".gz": "json"}


class HubSet:
    """A set of the hub: which data, which splits, how its rows become one text.

    Attributes:
        name: Name in the registry and of the local folder.
        dataset, configuration: The hub's names.
        splits: Our splits -> the hub's.
        files: Our splits -> files, for a set that is too large to be taken whole.
        columns: Columns of a row that become its text.
        first: Our splits -> the rows that are taken, from the start.
    """

    name: ClassVar[str]
    dataset: ClassVar[str]
    configuration: ClassVar[str | None] = None
    splits: ClassVar[Mapping[Split, str]] = {"calibration": "train", "evaluation": "test"}
    files: ClassVar[Mapping[Split, str]] = {}
    columns: ClassVar[tuple[str, ...]] = ("text",)
    first: ClassVar[Mapping[Split, int]] = {}
    separator: ClassVar[str] = "\n\n"
    held_out: ClassVar[bool] = True

    def __init__(self, reference: SetReference, policy: SourcePolicy) -> None:
        del reference
        self._policy = policy

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the rows of a split as text.

        Raises:
            CalibrationRefused: If the set is neither on this machine nor to be had from the hub.
        """
        for row in islice(self._rows(split), self.first.get(split)):
            absent = [column for column in self.columns if column not in row]
            if absent:
                raise missing_field(self.name, absent[0], list(row))
            yield self.text(row)

    def text(self, row: Mapping[str, Any]) -> str:
        """Return a row's text."""
        return "\n".join(str(row[column]) for column in self.columns if row[column])

    def check(self, least_bytes: int) -> None:
        """Refuse a set that is neither on this machine nor to be had from the hub."""
        del least_bytes
        if self._folder() is None and not self._policy.hub_enabled:
            message = (
                f"{self.name} is a data set of the hub, and hub access is off. Set {HUB_SWITCH}=1 to "
                f"download it, or put it into a folder {self.name}/ and point TRSP_DATASETS to the one above."
            )
            raise refused(message, self.name)

    def _folder(self) -> Path | None:
        root = self._policy.dataset_root
        return root / self.name if root is not None and (root / self.name).is_dir() else None

    def _rows(self, split: Split) -> Iterator[Mapping[str, Any]]:
        self.check(1)
        folder = self._folder()
        data = self._open_hub(split) if folder is None else self._open_folder(folder, split)
        yield from data

    def _open_folder(self, folder: Path, split: Split) -> Any:
        from datasets import load_dataset

        wanted = self.splits[split]
        files = sorted(item for item in folder.iterdir() if item.name.startswith(wanted) and item.is_file())
        kinds = {_BUILDERS.get(item.suffix) for item in files}
        if len(kinds) != 1 or None in kinds:
            message = f"{folder} needs {wanted}*.parquet or {wanted}*.jsonl for {self.name}, of one kind."
            raise refused(message, str(folder))
        builder = str(kinds.pop())
        return load_dataset(builder, data_files=[str(item) for item in files], split="train", streaming=True)

    def _open_hub(self, split: Split) -> Any:
        from datasets import load_dataset

        options: dict[str, Any] = {}
        if split in self.files:
            options["data_files"] = {self.splits[split]: self.files[split]}
        try:
            return load_dataset(
                self.dataset, self.configuration, split=self.splits[split], streaming=bool(options), **options
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise refused(f"{self.name} could not be had from the hub: {reason}", self.name) from error


class WikiText2(HubSet):
    """WikiText-2 raw; rows are lines, joined by two newlines as GPTQ and its successors do."""

    name: ClassVar[str] = "wikitext2"
    dataset: ClassVar[str] = "Salesforce/wikitext"
    configuration: ClassVar[str | None] = "wikitext-2-raw-v1"

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the line as it is: empty lines count in the published perplexities."""
        return str(row["text"])


class PennTreebank(HubSet):
    """Penn Treebank; sentences joined by a space."""

    name: ClassVar[str] = "ptb"
    dataset: ClassVar[str] = "ptb-text-only/ptb_text_only"
    columns: ClassVar[tuple[str, ...]] = ("sentence",)
    separator: ClassVar[str] = " "


class C4(HubSet):
    """C4, English: one shard of each split; the validation shard's first 1,100 documents are measured on."""

    name: ClassVar[str] = "c4"
    dataset: ClassVar[str] = "allenai/c4"
    splits: ClassVar[Mapping[Split, str]] = {"calibration": "train", "evaluation": "validation"}
    files: ClassVar[Mapping[Split, str]] = {
        "calibration": "en/c4-train.00000-of-01024.json.gz",
        "evaluation": "en/c4-validation.00000-of-00008.json.gz",
    }
    first: ClassVar[Mapping[Split, int]] = {"evaluation": 1100}
    separator: ClassVar[str] = " "


class Alpaca(HubSet):
    """Alpaca: instruction, input, output. The hub has one split, of which every fourth row evaluates."""

    name: ClassVar[str] = "alpaca"
    dataset: ClassVar[str] = "tatsu-lab/alpaca"
    splits: ClassVar[Mapping[Split, str]] = {"calibration": "train", "evaluation": "train"}
    columns: ClassVar[tuple[str, ...]] = ("instruction", "input", "output")

    def _rows(self, split: Split) -> Iterator[Mapping[str, Any]]:
        for place, row in enumerate(super()._rows(split)):
            if (place % 4 == 3) == (split == "evaluation"):
                yield row

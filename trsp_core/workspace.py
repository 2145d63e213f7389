"""The output folder of one compression: its results, and while it runs the checkpoint that it goes on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from trsp_core.errors import OutputRefused, Problem
from trsp_core.files import sync_file, write_json_atomically
from trsp_core.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

REPORT = "report.json"
MANIFEST = "manifest.json"
"""Written last of all: a folder that has it is complete."""
_SPEC = "spec.json"
_LOG = "log.jsonl"


class Owner(Protocol):
    """What a folder belongs to: a spec whose fingerprint tells it from any other."""

    def fingerprint(self) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


class Workspace:
    """An output folder that belongs to one spec.

    Everything in `checkpoint/` appears whole or not at all; a run that is killed at any point leaves a folder
    from which the same spec goes on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint = folder / "checkpoint"
        self._was_there = folder.exists()
        self._claimed = False

    @classmethod
    def open(cls, folder: Path, spec: Owner) -> Self:
        """Take a new or empty folder, or one that the same spec began or finished.

        Raises:
            OutputRefused: If the folder holds anything else, or cannot be written.
        """
        space = cls(folder)
        if folder.exists() and not folder.is_dir():
            raise _refused(folder, "is a file; choose another place.")
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            space._claim(spec)
        owner = space._owner()
        if owner is None:
            raise _refused(folder, "exists and is neither empty nor a checkpoint; choose another folder.")
        if owner.get("fingerprint") != spec.fingerprint():
            fields = ", ".join(_differences(owner["spec"], spec.to_dict()))
            message = (
                f"belongs to another job, with another {fields}. Choose another folder, or the same options."
            )
            raise _refused(folder, message)
        return space

    def _claim(self, spec: Owner) -> None:
        try:
            self.checkpoint.mkdir(parents=True, exist_ok=True)
            started = datetime.now(UTC).isoformat(timespec="seconds")
            owner = {"fingerprint": spec.fingerprint(), "spec": spec.to_dict(), "started_at": started}
            write_json_atomically(self.checkpoint / _SPEC, owner)
            self._claimed = True
        except OSError as error:
            raise _refused(self.folder, f"cannot be written: {error.strerror}.") from error

    def _owner(self) -> dict[str, Any] | None:
        if (self.checkpoint / _SPEC).is_file():
            return dict(json.loads((self.checkpoint / _SPEC).read_text()))
        report = self.finished_report()
        if report is None:
            return None
        return {"fingerprint": report.get("spec_fingerprint"), "spec": report.get("spec", {})}

    @property
    def started_at(self) -> str:
        """When the first attempt began, ISO 8601, UTC."""
        return str(json.loads((self.checkpoint / _SPEC).read_text())["started_at"])

    def finished_report(self) -> dict[str, Any] | None:
        """Return the report of a finished run, or None while there is none."""
        if not (self.folder / MANIFEST).is_file():
            return None
        return dict(json.loads((self.folder / REPORT).read_text()))

    def finish(self) -> None:
        """Drop the checkpoint: the results are complete."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)

    def abandon(self) -> None:
        """Leave the folder as it was before, where it was taken now and nothing has been begun in it."""
        if not self._claimed:
            return
        self.finish()
        (self.folder / _LOG).unlink(missing_ok=True)
        if not self._was_there:
            self.folder.rmdir()

    def log(self, progress: Progress) -> None:
        """Append a progress event to `log.jsonl`."""
        entry = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **progress.to_dict()}
        with (self.folder / _LOG).open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def save(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a checkpoint value as JSON."""
        write_json_atomically(self.checkpoint / f"{name}.json", value)

    def load(self, name: str) -> dict[str, Any] | None:
        """Return a checkpoint value, or None where it was not reached."""
        path = self.checkpoint / f"{name}.json"
        return dict(json.loads(path.read_text())) if path.is_file() else None

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Write tensors and a JSON value about them as one file."""
        from safetensors.torch import save_file

        path = self.checkpoint / f"{name}.safetensors"
        partial = path.with_suffix(".partial")
        whole = {key: item.contiguous() for key, item in tensors.items()}
        save_file(whole, partial, metadata={"about": json.dumps(about)})
        sync_file(partial)
        partial.replace(path)

    def load_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what `save_tensors` wrote, or None where it was not reached."""
        from safetensors import safe_open

        path = self.checkpoint / f"{name}.safetensors"
        if not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118

    def drop(self, name: str) -> None:
        """Remove a checkpoint that a later one replaces."""
        for path in self.checkpoint.glob(f"{name}.*"):
            path.unlink(missing_ok=True)


def _refused(folder: Path, message: str) -> OutputRefused:
    return OutputRefused(Problem("", f"the output folder {folder} {message}", str(folder)))


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return the dotted paths of the fields in which two values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
        return [
            found
            for key in keys
            for found in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [path]

"""The tools that made cases are made with: a folder or a file that is right, and ways to spoil it."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

MARKER = "executed"
SECONDS = 2.0


@dataclass(frozen=True)
class Case:
    """A way to spoil a right model, and a word that its refusal must hold."""

    spoil: Callable[[Path], None]
    said: str


@contextmanager
def bounded() -> Iterator[None]:
    """Fail where the block takes more than two seconds of this process's time, or waits for long."""
    cpu, wall = process_time(), perf_counter()
    yield
    assert process_time() - cpu < SECONDS
    assert perf_counter() - wall < 5 * SECONDS


def config(**changes: Any) -> Callable[[Path], None]:
    """Change keys of config.json; `...` takes one out."""

    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        values = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))

    return spoil


def in_json(name: str, **changes: Any) -> Callable[[Path], None]:
    """Change keys of a JSON file beside the config, or make it."""

    def spoil(folder: Path) -> None:
        path = folder / name
        values = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**values, **changes}))

    return spoil


def put(name: str, data: bytes | str) -> Callable[[Path], None]:
    """Write a file into the folder."""

    def spoil(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    return spoil


def read_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return header and data of a file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def safetensors(header: Any, data: bytes) -> bytes:
    """Return a file of a header, as text or as an object, and data."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the header of model.safetensors; the data stays."""

    def spoil(folder: Path) -> None:
        entries, data = read_safetensors(folder / "model.safetensors")
        changed = change(entries)
        (folder / "model.safetensors").write_bytes(safetensors(entries if changed is None else changed, data))

    return spoil


def weights(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Change the tensors of model.safetensors."""

    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def sharded(change: Callable[[dict[str, dict[str, Any]], dict[str, str]], None]) -> Callable[[Path], None]:
    """Split the weights over two files and change what they hold and what their index says."""

    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(tensors)
        files = {
            "a.safetensors": {name: tensors[name] for name in names[::2]},
            "b.safetensors": {name: tensors[name] for name in names[1::2]},
        }
        table = {name: file for file, held in files.items() for name in held}
        change(files, table)
        for file, held in files.items():
            save_file(held, folder / file, metadata={"format": "pt"})
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))

    return spoil


class Malicious:
    """Runs code of its own when it is unpickled: it makes the marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def pickled(name: str) -> Callable[[Path], None]:
    """Put a pickle that runs code under a name."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(pickle.dumps(Malicious(folder / MARKER)))

    return spoil


def code(name: str) -> Callable[[Path], None]:
    """Put a Python file that makes the marker when it is imported."""
    return lambda folder: put(name, f"import pathlib; pathlib.Path({str(folder / MARKER)!r}).touch()\n")(
        folder
    )


def both(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    """Spoil in several ways, one after another."""

    def spoil(folder: Path) -> None:
        for step in steps:
            step(folder)

    return spoil


def gone(name: str) -> Callable[[Path], None]:
    """Take a file out."""
    return lambda folder: (folder / name).unlink()


def nested(depth: int) -> Mapping[str, Any]:
    """Return an object in an object, `depth` deep."""
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value

"""Mutated files through the three readers: taken or refused, nothing else, in bounded time and memory.

What the safetensors reader takes, the library takes too and finds the same tensors: a header that the one
that checks and the one that loads read differently would be a way around every check.
"""

from __future__ import annotations

import json
import logging
import random
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.hostile import mutations
from tests.hostile.spoiling import bounded, read_safetensors
from tests.trsp_core.conftest import save_tiny
from trsp_core.errors import ModelRefused
from trsp_core.safetensors_file import SafetensorsError, read_header
from trsp_core.sources import SourcePolicy, inspect, resolve

LOG = logging.getLogger(__name__)
QUICK = 100
LONG = {"safetensors": 7000, "gguf": 6000, "config.json": 3000, "index": 2000, "tokenizer_config.json": 2000}
MEBIBYTES = 200
JSON = ("config.json", "index", "tokenizer_config.json")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny Llama with an index, each file of which a case may overwrite."""
    folder = save_tiny(tmp_path / "model", "llama")
    names = [name for name in read_safetensors(folder / "model.safetensors")[0] if name != "__metadata__"]
    table = {"weight_map": dict.fromkeys(names, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))
    return folder


def peak() -> float:
    """Return the largest resident size that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _safetensors(model: Path, draw: random.Random) -> Callable[[], bool]:
    path = model / "model.safetensors"
    header, data = read_safetensors(path)
    target = model.parent / "fuzzed.safetensors"

    def one() -> bool:
        target.write_bytes(mutations.safetensors_file(header, data, draw))
        try:
            found = read_header(target).tensors
        except SafetensorsError:
            return False
        with safe_open(target, framework="pt") as file:
            assert sorted(file.keys()) == sorted(found)
            for name, info in found.items():
                assert tuple(file.get_slice(name).get_shape()) == info.shape
        return True

    return one


def _gguf(model: Path, draw: random.Random) -> Callable[[], bool]:
    target = model.parent / "fuzzed.gguf"

    def one() -> bool:
        target.write_bytes(mutations.gguf_file(draw))
        return _taken(f"gguf:{target}")

    return one


def _json(name: str) -> Callable[[Path, random.Random], Callable[[], bool]]:
    def made(model: Path, draw: random.Random) -> Callable[[], bool]:
        path = model / ("model.safetensors.index.json" if name == "index" else name)
        value = json.loads(path.read_text())

        def one() -> bool:
            path.write_bytes(mutations.json_text(value, draw))
            return _taken(str(model))

        return one

    return made


def _taken(reference: str) -> bool:
    try:
        inspect(resolve(reference, SourcePolicy()))
    except ModelRefused as error:
        assert str(error).isprintable()
        return False
    return True


READERS = {"safetensors": _safetensors, "gguf": _gguf, **{name: _json(name) for name in JSON}}


def fuzz(reader: str, model: Path, count: int, seed: int) -> int:
    """Run the cases and return how many were taken; the seed and the case's number are told on failure."""
    one = READERS[reader](model, random.Random(seed))
    before, taken = peak(), 0
    for case in range(count):
        try:
            with bounded():
                taken += one()
        except BaseException as error:
            error.add_note(f"{reader}: case {case} of seed {seed}")
            raise
    assert peak() - before < MEBIBYTES
    return taken


@pytest.mark.parametrize("reader", READERS)
def test_mutated_files_are_taken_or_refused(reader: str, model: Path) -> None:
    taken = fuzz(reader, model, QUICK, seed=1)
    assert taken < QUICK
    assert taken or reader == "index"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("reader", READERS)
def test_many_mutated_files_are_taken_or_refused(reader: str, model: Path) -> None:
    assert sum(LONG.values()) == 20_000
    taken = fuzz(reader, model, LONG[reader], seed=2)
    assert taken < LONG[reader]
    LOG.info("%s: %d cases, %d taken, peak %.0f MiB", reader, LONG[reader], taken, peak())

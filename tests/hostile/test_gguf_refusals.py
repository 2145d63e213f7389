"""Each made GGUF file gets its own refusal, by resolving, by looking into it and by surgery."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from tests.hostile.gguf_cases import GGUF_CASES, RIGHT
from tests.hostile.spoiling import bounded
from trsp_core.errors import ModelRefused
from trsp_core.gguf_surgery import read_gguf_model
from trsp_core.sources import Source, SourcePolicy, inspect, resolve

MEMORY = 200 * 2**20
pytestmark = pytest.mark.timeout(60)


def looked_into(path: Path, policy: SourcePolicy) -> None:
    inspect(resolve(f"gguf:{path}", policy))


def test_the_file_that_is_spoiled_is_right(tmp_path: Path, policy: SourcePolicy) -> None:
    (tmp_path / "m.gguf").write_bytes(RIGHT.bytes())
    looked_into(tmp_path / "m.gguf", policy)


@pytest.mark.parametrize("name", GGUF_CASES)
def test_refused_in_bounded_time(name: str, tmp_path: Path, policy: SourcePolicy) -> None:
    data, word = GGUF_CASES[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with bounded(), pytest.raises(ModelRefused) as caught:
        looked_into(path, policy)
    assert word in str(caught.value)
    assert str(caught.value).isprintable()
    with bounded():
        _surgery_refuses(path)
        _inspected(path)


def _surgery_refuses(path: Path) -> None:
    try:
        read_gguf_model(path)
    except ModelRefused:
        return


def _inspected(path: Path) -> None:
    try:
        inspect(Source(str(path), "gguf", path, "revision"))
    except ModelRefused:
        return


@pytest.mark.parametrize("name", ["32 MB of text", "2^60 tensors"])
def test_refused_in_bounded_memory(name: str, tmp_path: Path, policy: SourcePolicy) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(GGUF_CASES[name][0])
    tracemalloc.start()
    try:
        with pytest.raises(ModelRefused):
            looked_into(path, policy)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, policy: SourcePolicy) -> None:
    path, data = tmp_path / "m.gguf", RIGHT.bytes()
    end = len(data) - RIGHT.data + 768 + 256
    for keep in range(end):
        path.write_bytes(data[:keep])
        with pytest.raises(ModelRefused):
            looked_into(path, policy)
    path.write_bytes(data[:end])
    looked_into(path, policy)


def test_a_pipe_and_a_device_are_no_files(tmp_path: Path, policy: SourcePolicy) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    for path in (tmp_path / "m.gguf", Path("/dev/zero"), tmp_path):
        with pytest.raises(ModelRefused, match="is no file"):
            looked_into(path, policy)

"""Layers leave a GGUF file: what stays is the same bytes, what is told layer by layer follows."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from tests.trsp_core.gguf_files import tensor_bytes, values, write_gguf
from trsp_core.errors import Cancelled, InvalidSpec, ModelRefused, OutputRefused
from trsp_core.gguf_layers import POSITION_BOUND, POSITION_FREE
from trsp_core.gguf_surgery import read_gguf_model, remove_from_gguf
from trsp_core.surgery import pruned_view

LAYERS = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in Q8_0 with a list that has one entry a layer and one that has not."""
    keys = {"attention.head_count_kv": [2, 2, 2, 2], "rope.dimension_sections": [1, 2, 3, 4]}
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", keys=keys)


def cut(source: Path, target: Path, kept: list[int]) -> Path:
    target.unlink(missing_ok=True)
    remove_from_gguf(read_gguf_model(source), target, kept)
    return target


def refusal(path: Path) -> str:
    with pytest.raises(ModelRefused) as caught:
        read_gguf_model(path)
    assert {problem.pointer for problem in caught.value.problems} == {"/model"}
    return str(caught.value)


@settings(max_examples=15, deadline=None)
@given(kept=st.sets(st.integers(0, LAYERS - 1), min_size=1).map(sorted))
def test_any_layers_leave_and_the_rest_is_the_same_bytes(
    kept: list[int], source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    result = cut(source, tmp_path_factory.mktemp("cut") / "cut.gguf", kept)
    before, after = tensor_bytes(source), tensor_bytes(result)
    expected = {name: data for name, data in before.items() if not name.startswith("blk.")}
    for new, old in enumerate(kept):
        inside = {name: data for name, data in before.items() if name.startswith(f"blk.{old}.")}
        expected |= {name.replace(f".{old}.", f".{new}.", 1): data for name, data in inside.items()}
    assert after == expected
    old_order = [name for name in before if not name.startswith("blk.") or int(name.split(".")[1]) in kept]
    assert [name.split(".")[-2:] for name in after] == [name.split(".")[-2:] for name in old_order]
    told, was = values(result), values(source)
    assert told["llama.block_count"] == len(kept)
    assert told["llama.attention.head_count_kv"] == [2] * len(kept)
    assert told["llama.rope.dimension_sections"] == [1, 2, 3, 4]
    changed = {"GGUF.tensor_count", "GGUF.kv_count", "llama.block_count", "llama.attention.head_count_kv"}
    assert {key: value for key, value in was.items() if key not in changed}.items() <= told.items()


def test_nothing_removed_is_the_identical_file(source: Path, tmp_path: Path) -> None:
    assert cut(source, tmp_path / "same.gguf", [0, 1, 2, 3]).read_bytes() == source.read_bytes()


def test_a_result_can_be_cut_again_and_still_tells_where_its_layers_come_from(
    source: Path, tmp_path: Path
) -> None:
    once = cut(source, tmp_path / "once.gguf", [0, 2, 3])
    twice = cut(once, tmp_path / "twice.gguf", [0, 2])
    direct = cut(source, tmp_path / "direct.gguf", [0, 3])
    assert tensor_bytes(twice) == tensor_bytes(direct)
    told = values(twice)
    assert (told["trsp.kept_layers"], told["trsp.source_layers"]) == ([0, 3], LAYERS)
    assert (told["general.base_model.count"], told["general.base_model.0.name"]) == (1, "Tiny")
    assert told == values(direct)


@pytest.mark.parametrize("quantized", ["Q8_0", "Q4_0"])
def test_the_result_loads_and_computes_what_the_model_without_the_layers_does(
    tmp_path: Path, quantized: str
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", quantized=quantized, alignment=64)
    cut(path, tmp_path / "cut.gguf", [0, 3])
    dense, pruned = (
        AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=name, dtype=torch.float32)
        for name in ("tiny.gguf", "cut.gguf")
    )
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        expected = pruned_view(dense, [0, 3])(ids).logits
        assert torch.equal(pruned(ids).logits, expected)
        assert not torch.allclose(dense(ids).logits, expected, atol=1e-2)


def test_the_gguf_package_reads_what_is_written(source: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(cut(source, tmp_path / "cut.gguf", [1]))
    assert all(tensor.data_offset % 32 == 0 for tensor in reader.tensors)
    assert (tmp_path / "cut.gguf").stat().st_size % 32 == 0


def test_what_is_no_selection_or_no_new_file_is_refused_and_leaves_nothing(
    source: Path, tmp_path: Path
) -> None:
    model = read_gguf_model(source)
    for kept in ([], [4], [1, 0]):
        with pytest.raises(InvalidSpec):
            remove_from_gguf(model, tmp_path / "cut.gguf", kept)
    (tmp_path / "there.gguf").write_text("mine")
    with pytest.raises(OutputRefused, match="exists"):
        remove_from_gguf(model, tmp_path / "there.gguf", [0])
    with pytest.raises(Cancelled):
        remove_from_gguf(model, tmp_path / "cut.gguf", [0], should_stop=lambda: True)
    assert [path.name for path in tmp_path.iterdir()] == ["there.gguf"]
    assert (tmp_path / "there.gguf").read_text() == "mine"


@pytest.mark.parametrize("name", sorted(POSITION_BOUND))
def test_layers_that_know_their_position_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    said = refusal(write_gguf(tmp_path / "m.gguf", layers=2, architecture=name))
    assert POSITION_BOUND[name] in said
    assert "llama" in said


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    assert "is not known" in refusal(write_gguf(tmp_path / "m.gguf", layers=2, architecture="newest"))


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "phi3", "gemma", "mistral"])
def test_common_architectures_are_taken(name: str, tmp_path: Path) -> None:
    assert name in POSITION_FREE
    path = write_gguf(tmp_path / "m.gguf", layers=2, architecture=name)
    assert values(cut(path, tmp_path / "cut.gguf", [1]))[f"{name}.block_count"] == 1


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"attention.head_count": [4, 4]}, "has 2 entries for 4 layers"),
        ({"attention.sliding_window_pattern": 6}, "by their position"),
        ({"attention.shared_kv_layers": 2}, "share keys and values"),
        ({"nextn_predict_layers": 1}, "predict further tokens"),
        ({"odd": ["a", "b", "c", "d"]}, "list of texts"),
    ],
)
def test_metadata_that_binds_layers_is_refused(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal(write_gguf(tmp_path / "m.gguf", keys=keys))


def test_lists_of_any_type_are_sliced(tmp_path: Path) -> None:
    keys = {"attention.sliding_window_pattern": [True, False, True, False], "scale": [0.5, 1.5, 2.5, 3.5]}
    told = values(cut(write_gguf(tmp_path / "m.gguf", keys=keys), tmp_path / "cut.gguf", [1, 2]))
    assert told["llama.attention.sliding_window_pattern"] == [False, True]
    assert told["llama.scale"] == [1.5, 2.5]


def changed(source: Path, target: Path, old: bytes, new: bytes) -> Path:
    data = source.read_bytes()
    assert data.count(old) >= 1
    target.write_bytes(data.replace(old, new, 1))
    return target


def test_other_byte_orders_versions_and_parts_of_a_split_are_refused(source: Path, tmp_path: Path) -> None:
    start = b"GGUF" + struct.pack("<I", 3)
    path = tmp_path / "m.gguf"
    big = b"GGUF" + struct.pack(">I", 3)
    assert "big-endian" in refusal(changed(source, path, start, big))
    assert "version 1" in refusal(changed(source, path, start, b"GGUF" + struct.pack("<I", 1)))
    old = struct.pack("<Q", 12) + b"general.name" + struct.pack("<IQ", 8, 4) + b"Tiny"
    new = struct.pack("<Q", 11) + b"split.count" + struct.pack("<II", 4, 3)
    assert "split" in refusal(changed(source, path, old, new))


def test_layers_that_differ_or_share_tensors_are_refused(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    said = refusal(changed(source, path, b"blk.2.attn_norm", b"blk.2.attn_NORM"))
    assert "layers 0 and 2 differ" in said
    first, second = read_gguf_model(source).header.tensors[2:4]
    places = [struct.pack("<IQ", tensor.type, tensor.offset) for tensor in (first, second)]
    assert "shares bytes" in refusal(changed(source, path, places[1], places[0]))
    outside = struct.pack("<IQ", second.type, 1 << 40)
    assert "outside the file" in refusal(changed(source, path, places[1], outside))
    unknown = struct.pack("<IQ", 9999, second.offset)
    assert "unknown type 9999" in refusal(changed(source, path, places[1], unknown))
    path.write_bytes(source.read_bytes()[:-64])
    assert "outside the file" in refusal(path)


def test_an_alignment_that_is_no_power_of_two_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", layers=2, alignment=64)
    key = b"general.alignment" + struct.pack("<I", 4)
    for wrong in (0, 48):
        bad = changed(
            path, tmp_path / "bad.gguf", key + struct.pack("<I", 64), key + struct.pack("<I", wrong)
        )
        assert "power of two" in refusal(bad)


def test_the_command_needs_no_torch_and_writes_the_file(source: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from trsp_cli.main import run; code = run(sys.argv[1:]); "
        "assert not {'torch', 'transformers'} & set(sys.modules); sys.exit(code)"
    )
    arguments = ["--json", "remove", f"gguf:{source}", "--layers", "0,2", "--out", str(tmp_path / "c.gguf")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept_layers"] == [1, 3]
    assert values(tmp_path / "c.gguf")["trsp.kept_layers"] == [1, 3]
    folder = [*arguments[:2], str(tmp_path), *arguments[3:]]
    done = subprocess.run([sys.executable, "-c", code, *folder], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--out" in done.stdout

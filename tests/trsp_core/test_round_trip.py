"""The certificate holds for a right result and fails for a wrong one."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trsp_core.conftest import VOCABULARY
from trsp_core import round_trip as module
from trsp_core import round_trip_child as child
from trsp_core.checkpoint import load_model
from trsp_core.decoder import Decoder
from trsp_core.errors import Cancelled, RoundTripFailed, StorageFull
from trsp_core.results import RoundTrip
from trsp_core.round_trip import NEW_TOKENS, Probe, failures, round_trip, tolerance_for, write_reference
from trsp_core.surgery import pruned_view, remove_streamed

CPU = torch.device("cpu")
KEPT = (0, 2, 5)
CHECKS = [
    *("no_warnings", "logits", "cached_generation", "left_padded"),
    *("second_save_tensors", "second_save_logits", "sdpa_and_eager", "vllm"),
]
TinyFolder = Callable[[str], Path]


def saved(folder: Path, place: Path) -> tuple[Path, Path]:
    """A pruned folder and the reference of the model in memory."""
    remove_streamed(folder, place / "out", KEPT)
    view = pruned_view(load_model(folder, dtype=torch.float32, device=CPU), KEPT)
    write_reference(Decoder(view), Probe.draw(VOCABULARY, 128, seed=0), place / "reference.safetensors")
    return place / "out", place / "reference.safetensors"


def certify(folder: Path, reference: Path) -> RoundTrip:
    return round_trip(folder, reference, tolerance=tolerance_for(torch.float32), dtype=torch.float32)


def test_a_right_result_passes(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    result = certify(*saved(tiny_folder("qwen3"), tmp_path))
    assert result.ok
    assert result.generated_tokens_equal
    assert result.max_abs_logit_difference <= 1e-5
    assert result.warnings == ()
    assert "AutoModelForCausalLM.from_pretrained" in result.loader
    found = {item.name: item for item in result.checks}
    assert list(found) == CHECKS
    assert {name for name, item in found.items() if item.ok is None} == {"vllm"}
    assert found["vllm"].detail == "vLLM is not installed"
    assert 0 < (found["sdpa_and_eager"].figure or 0) <= (found["sdpa_and_eager"].tolerance or 0)
    assert all(item.figure == 0 for item in found.values() if item.name.startswith("second_save"))
    assert failures(result) == ""
    assert list(tmp_path.glob(".round-trip*")) == []
    assert RoundTrip.from_dict(json.loads(json.dumps(asdict(result)))) == result


def test_other_weights_fail_and_warnings_are_told(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    out, reference = saved(tiny_folder("gpt2"), tmp_path)
    tensors = load_file(out / "model.safetensors")
    del tensors["transformer.ln_f.weight"]
    tensors["transformer.h.1.mlp.c_proj.weight"].mul_(1.001)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    result = certify(out, reference)
    assert not result.ok
    assert result.max_abs_logit_difference > 1e-5
    assert any("transformer.ln_f.weight" in warning for warning in result.warnings)
    assert {item.name for item in result.failed} == {"no_warnings", "logits"}
    assert "no_warnings: warnings 1, allowed 0 (" in failures(result)
    assert f"logits: largest logit difference {result.max_abs_logit_difference:g}, allowed 1e-05" in failures(
        result
    )


def test_a_crash_is_told_with_its_last_words(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    out, reference = saved(tiny_folder("llama"), tmp_path)
    (out / "config.json").write_text("{")
    with pytest.raises(RoundTripFailed, match=r"(?s)ended with code 1.*config\.json"):
        certify(out, reference)


def test_logits_that_are_not_finite_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: dict[str, Any], *_: object) -> None:
        lost = [child.check("logits", False, float("nan"), 1e-5, "logits")]
        Path(request["answer"]).write_text(json.dumps({"loader": "", "warnings": [], "checks": lost}))

    monkeypatch.setattr(module, "_run", answer)
    with pytest.raises(RoundTripFailed, match="not finite"):
        certify(tmp_path, tmp_path / "reference")


@pytest.fixture
def endless_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "endless.py").write_text("import time\nprint('asleep', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(module, "CHILD", tmp_path / "endless.py")


@pytest.mark.usefixtures("endless_child")
def test_a_process_that_hangs_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(RoundTripFailed, match=r"longer than 0\.5 s"):
        round_trip(tmp_path, tmp_path / "r", tolerance=1e-5, dtype=torch.float32, timeout_seconds=0.5)


@pytest.mark.usefixtures("endless_child")
def test_a_stop_ends_the_process(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        round_trip(tmp_path, tmp_path / "r", tolerance=1e-5, dtype=torch.float32, should_stop=lambda: True)


def test_the_child_knows_nothing_of_this_project(tmp_path: Path) -> None:
    source = Path(child.__file__).read_text()
    assert "trsp_core" not in source
    assert "-P" in Path(module.__file__).read_text()


def test_the_probe_leaves_room_to_generate() -> None:
    assert Probe.draw(10, None, seed=0).input_ids.shape == (2, 32)
    assert Probe.draw(10, 20, seed=0).input_ids.shape == (2, 20 - NEW_TOKENS)
    assert torch.equal(Probe.draw(50, 64, seed=3).input_ids, Probe.draw(50, 64, seed=3).input_ids)
    assert not torch.equal(Probe.draw(50, 64, seed=3).input_ids, Probe.draw(50, 64, seed=4).input_ids)
    with pytest.raises(RoundTripFailed, match="too short"):
        Probe.draw(10, NEW_TOKENS, seed=0)


def test_tolerance_scales_with_the_precision() -> None:
    assert tolerance_for(torch.float32) == 1e-5
    assert tolerance_for(torch.bfloat16) == pytest.approx(1e-5 * 2**16)


def greedy(tokens: list[int], logits: torch.Tensor) -> child.Generated:
    return child.Generated(torch.tensor(tokens), logits)


def test_choices_differ_only_where_no_tie_explains_it() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0 + 2**-23, 0.0], [1.0, 0.5, 0.0]])
    run = greedy([0, 1, 0], logits)
    assert child.different_tokens(run, greedy([0, 1, 0], logits)) == 0
    assert child.different_tokens(run, greedy([0, 0, 2], logits)) == 0
    assert child.different_tokens(run, greedy([0, 1, 1], logits)) == 1
    assert child.different_tokens(run, greedy([1, 0, 1], logits)) == 3


def test_noise_is_a_few_steps_of_the_precision() -> None:
    assert child.noise(torch.float32) == pytest.approx(7.6e-6, rel=0.01)
    assert child.noise(torch.bfloat16) == 0.0625


# The checks one by one, in this process


@pytest.fixture
def request_of(tiny_folder: TinyFolder, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return the request for a family's tiny model, compared with itself."""

    def make(family: str, **changes: Any) -> dict[str, Any]:
        model = load_model(tiny_folder(family), dtype=torch.float32, device=CPU)
        write_reference(
            Decoder(model), Probe.draw(VOCABULARY, 128, seed=0), tmp_path / "reference.safetensors"
        )
        return {
            "folder": str(tiny_folder(family)),
            "reference": str(tmp_path / "reference.safetensors"),
            "source": None,
            "tolerance": 1e-5,
            "dtype": "float32",
            "device": "cpu",
            "new_tokens": 6,
            "streamed": False,
            "threads": torch.get_num_threads(),
            "answer": str(tmp_path / "answer.json"),
            **changes,
        }

    return make


RequestOf = Callable[..., dict[str, Any]]


def first_of(request: dict[str, Any], second: Path) -> tuple[torch.Tensor, child.First]:
    reference = load_file(request["reference"])
    return reference["input_ids"], child.first_load(
        request, reference["input_ids"], reference["logits"], second
    )


@pytest.mark.parametrize("family", ["gpt2", "opt", "mistral", "phi"])
def test_main_writes_its_findings(request_of: RequestOf, tmp_path: Path, family: str) -> None:
    child.main(request_of(family))
    gc.unfreeze()
    found = json.loads((tmp_path / "answer.json").read_text())
    assert set(found) == {"loader", "warnings", "checks"}
    assert [item["name"] for item in found["checks"]] == CHECKS
    assert all(item["ok"] is not False for item in found["checks"]), found
    assert found["checks"][1]["figure"] == 0
    assert (found["warnings"], found["loader"].count("float32")) == ([], 1)


def test_a_broken_cache_is_seen(tiny_folder: TinyFolder) -> None:
    model = load_model(tiny_folder("llama"), dtype=torch.float32, device=CPU)
    model.model.layers[2].self_attn.layer_idx = 1
    prompt = torch.arange(8)[None]
    (first,) = child.generate(model, prompt, torch.ones_like(prompt), NEW_TOKENS)
    assert len(first.tokens) == NEW_TOKENS
    check = child.cached(model, prompt, first)
    assert (check["ok"], check["figure"] > 0) == (False, True)


def test_padding_that_is_attended_to_is_seen_unless_the_source_does_too(
    request_of: RequestOf, tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = load_model(tiny_folder("gpt2"), dtype=torch.float32, device=CPU)
    request = request_of("gpt2", source=str(tiny_folder("gpt2")))
    whole = type(model).forward

    def maskless(self: Any, *args: Any, attention_mask: Any = None, **options: Any) -> Any:
        return whole(self, *args, **options)

    ids = Probe.draw(VOCABULARY, 128, seed=1).input_ids
    with monkeypatch.context() as patch:
        patch.setattr(type(model), "forward", maskless)
        padded = child.left_padded(model, ids, child.each_alone(model, ids, NEW_TOKENS))
        assert (padded["ok"], padded["figure"] > 0) == (False, True)
        excused = child.unless_the_source_s(padded, request, ids)
    assert (excused["ok"], excused["figure"]) == (None, None)
    assert "the source does not pass it either: different tokens" in excused["detail"]
    assert child.unless_the_source_s(padded, request, ids) == padded
    assert child.unless_the_source_s(padded, {**request, "source": None}, ids) == padded


def test_a_second_save_that_changes_something_is_seen(request_of: RequestOf, tmp_path: Path) -> None:
    request, second = request_of("llama"), tmp_path / "second"
    ids, first = first_of(request, second)
    assert [item["ok"] for item in child.second_load(request, ids, first, second)] == [True, True]
    tensors = load_file(second / "model.safetensors")
    tensors["model.norm.weight"] += 1e-3
    save_file(tensors, second / "model.safetensors", metadata={"format": "pt"})
    by_hash, by_logits = child.second_load(request, ids, first, second)
    assert (by_hash["ok"], by_hash["figure"], by_hash["detail"]) == (False, 1, "model.norm.weight")
    assert (by_logits["ok"], by_logits["figure"] > 0) == (False, True)


def test_another_attention_is_seen_or_does_not_apply(request_of: RequestOf, tmp_path: Path) -> None:
    request = request_of("llama")
    ids, first = first_of(request, tmp_path / "second")
    assert child.eager_load(request, ids, first)["ok"]
    off = replace(first, logits=first.logits + 0.01)
    wrong = child.eager_load(request, ids, off)
    assert (wrong["ok"], wrong["figure"]) == (False, pytest.approx(0.01, rel=0.1))
    assert child.unless_the_source_s(wrong, {**request, "source": request["folder"]}, ids) == wrong
    for changed, why in (
        (replace(first, has_sdpa=False), "no SDPA"),
        (replace(first, attention="eager"), "the attention eager"),
    ):
        check = child.eager_load(request, ids, changed)
        assert (check["ok"], check["figure"]) == (None, None)
        assert why in check["detail"]


def test_a_warning_counts_unless_the_source_gives_it(
    request_of: RequestOf, tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    source = shutil.copytree(tiny_folder("llama"), tmp_path / "source")
    flags = json.loads((source / "generation_config.json").read_text())
    (source / "generation_config.json").write_text(json.dumps({**flags, "temperature": 0.5}))
    _, said = child.load(str(source), torch.float32, "cpu")
    assert len(said) == 1
    alone = child.warnings_check(said, request_of("llama"))
    assert (alone["ok"], alone["figure"], alone["detail"]) == (False, 1, said[0])
    known = child.warnings_check(said, request_of("llama", source=str(source)))
    assert (known["ok"], known["figure"]) == (True, 0)
    assert "the source gives the same" in known["detail"]
    more = child.warnings_check([*said, "new"], request_of("llama", source=str(source)))
    assert (more["ok"], more["figure"], more["detail"]) == (False, 1, "new")


def test_what_python_does_not_show_is_no_warning(
    tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loader:
        @staticmethod
        def from_pretrained(folder: str, **options: Any) -> torch.nn.Module:
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            warnings.warn("odd", UserWarning, stacklevel=1)
            return torch.nn.Linear(1, 1)

    monkeypatch.setattr(child, "AutoModelForCausalLM", Loader)
    assert child.load("folder", torch.float32, "cpu")[1] == ["odd"]


@pytest.mark.parametrize(
    ("archs", "device", "shift", "ok", "words"),
    [
        (["LlamaForCausalLM"], "cpu", 0, True, "6 tokens"),
        (["LlamaForCausalLM"], "cpu", 1, False, "6 tokens"),
        (["OtherForCausalLM"], "cpu", 0, None, "vLLM has no LlamaForCausalLM"),
        (["LlamaForCausalLM"], "cuda", 0, None, "vLLM runs on cuda here"),
    ],
)
def test_vllm_is_compared_where_it_is_there(
    request_of: RequestOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    archs: list[str],
    device: str,
    shift: int,
    ok: bool | None,
    words: str,
) -> None:
    """With a stand-in for vLLM: what it is asked, and what its answer means."""
    request = request_of("llama")
    ids, first = first_of(request, tmp_path / "second")
    asked: dict[str, Any] = {}

    class LLM:
        def __init__(self, folder: str, **options: Any) -> None:
            asked.update(folder=folder, **options)

        def generate(self, prompt: dict[str, Any], greedy: dict[str, Any]) -> list[Any]:
            asked.update(prompt, **greedy)
            tokens = ((first.generated.tokens + shift) % VOCABULARY).tolist()
            return [types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=tokens)])]

    fake = types.ModuleType("vllm")
    fake.__spec__ = ModuleSpec("vllm", None)
    vars(fake).update(
        ModelRegistry=types.SimpleNamespace(get_supported_archs=lambda: archs),
        platforms=types.SimpleNamespace(current_platform=types.SimpleNamespace(device_type=device)),
        LLM=LLM,
        SamplingParams=dict,
        TokensPrompt=dict,
    )
    monkeypatch.setitem(sys.modules, "vllm", fake)
    check = child.vllm_load(request, ids, first)
    assert check["ok"] is ok
    assert words in check["detail"]
    if ok is not None:
        assert (asked["folder"], asked["temperature"]) == (request["folder"], 0)
        assert (asked["prompt_token_ids"], asked["max_model_len"]) == (ids[0, :8].tolist(), 14)


def test_a_disk_without_room_for_the_second_save_is_named(
    tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trsp_core.files.shutil.disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(StorageFull, match="10 bytes free"):
        certify(tiny_folder("llama"), tmp_path / "reference.safetensors")
    assert list(tmp_path.iterdir()) == []

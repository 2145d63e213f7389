"""The certificate holds for a right result and fails for a wrong one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trsp_core.conftest import VOCABULARY
from trsp_core import round_trip as module
from trsp_core import round_trip_child as child
from trsp_core.checkpoint import load_model
from trsp_core.errors import Cancelled, RoundTripFailed
from trsp_core.results import RoundTrip
from trsp_core.round_trip import NEW_TOKENS, Probe, round_trip, tolerance_for, write_reference
from trsp_core.surgery import pruned_view, remove_streamed

CPU = torch.device("cpu")
KEPT = (0, 2, 5)
TinyFolder = Callable[[str], Path]


def saved(folder: Path, place: Path) -> tuple[Path, Path]:
    """A pruned folder and the reference of the model in memory."""
    remove_streamed(folder, place / "out", KEPT)
    view = pruned_view(load_model(folder, dtype=torch.float32, device=CPU), KEPT)
    write_reference(view, Probe.draw(VOCABULARY, 128, seed=0), place / "reference.safetensors")
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


def test_a_crash_is_told_with_its_last_words(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    out, reference = saved(tiny_folder("llama"), tmp_path)
    (out / "config.json").write_text("{")
    with pytest.raises(RoundTripFailed, match=r"(?s)ended with code 1.*config\.json"):
        certify(out, reference)


def test_logits_that_are_not_finite_fail(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    out, reference = saved(tiny_folder("llama"), tmp_path)
    tensors = load_file(reference)
    tensors["logits"][0, 0, 0] = float("nan")
    save_file(tensors, reference)
    with pytest.raises(RoundTripFailed, match="not finite"):
        certify(out, reference)


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


def test_choices_differ_only_where_no_tie_explains_it() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0 + 2**-23, 0.0], [1.0, 0.5, 0.0]])
    same = torch.tensor([0, 1, 0])
    assert child.same_choices(same, same.clone(), logits)
    assert child.same_choices(same, torch.tensor([0, 0, 2]), logits)
    assert not child.same_choices(same, torch.tensor([0, 1, 1]), logits)


def test_a_broken_cache_is_seen(tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(tiny_folder("llama"), dtype=torch.float32, device=CPU)
    prompt = torch.arange(8)[None]
    model.model.layers[2].self_attn.layer_idx = 1
    cached, logits = child.generate(model, prompt, NEW_TOKENS, use_cache=True)
    uncached, _ = child.generate(model, prompt, NEW_TOKENS, use_cache=False)
    assert len(cached) == NEW_TOKENS
    assert not child.same_choices(cached, uncached, logits)


def test_main_writes_its_findings(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    out, reference = saved(tiny_folder("phi"), tmp_path)
    before = torch.get_num_threads()
    request = {
        "folder": str(out),
        "reference": str(reference),
        "dtype": "float32",
        "device": "cpu",
        "new_tokens": 4,
        "threads": before,
        "answer": str(tmp_path / "answer.json"),
    }
    child.main(request)
    found = json.loads((tmp_path / "answer.json").read_text())
    assert set(found) == {"max_abs_logit_difference", "generated_tokens_equal", "loader", "warnings"}
    assert found["max_abs_logit_difference"] == 0

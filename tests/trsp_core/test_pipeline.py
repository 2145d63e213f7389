import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from trsp_core.config import CompressionSpec
from trsp_core.errors import Cancelled, InputRefused, OutputRefused, RoundTripFailed, StorageFull
from trsp_core.files import sha256_of
from trsp_core.manifest import mismatches
from trsp_core.pipeline import compress, make_plan
from trsp_core.progress import STAGES, Progress
from trsp_core.results import CompressionReport
from trsp_core.round_trip import round_trip
from trsp_core.sources import SourcePolicy

Tiny = Callable[[str], Path]
QUICK = {"stage1_steps": 2, "stage2_steps": 4, "checkpoint_every": 2, "batch_sequences": 2}


TEXT = Path(tempfile.mkdtemp()) / "text.txt"
TEXT.write_text(" ".join(f"line {number} says {number * 37 % 101}." for number in range(400)))


def spec_of(model: Path, **method: Any) -> CompressionSpec:
    return CompressionSpec.from_dict(
        {
            "model": str(model),
            "target": {"layers_to_remove": 2},
            "calibration": {"set": f"text:{TEXT}", "sequences": 6, "sequence_length": 32},
            "method": {"name": "trsp", **QUICK, **method},
            "evaluation": {"perplexity": [f"text:{TEXT}"], "windows": 3, "window_length": 32},
        }
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder / "model").state_dict())


def same_result(one: Path, other: Path) -> None:
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    reports = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    for field in ("plan", "perplexity", "curve", "identity_gap", "stage2", "refitted_layers", "size"):
        assert reports[0][field] == reports[1][field], field
    assert reports[0]["resources"]["gradient_tokens"] == reports[1]["resources"]["gradient_tokens"]


@pytest.mark.parametrize("family", ["llama", "opt", "opt-after", "gpt2", "qwen2", "qwen3", "phi", "phi3"])
def test_a_model_of_every_family_goes_through(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, family: str
) -> None:
    seen: list[Progress] = []
    out = tmp_path / "out"
    report = compress(spec_of(tiny_folder(family)), workdir=out, on_progress=seen.append, policy=policy)
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert len(report.plan.kept) == 4
    assert sum(item.numel() for item in model.parameters()) == report.size.pruned_parameters
    assert report.round_trip.ok
    assert report.round_trip.max_abs_logit_difference <= 1e-5
    assert report.round_trip.generated_tokens_equal
    assert report.resources.gradient_tokens == 4 * 2 * 32
    assert not (out / "checkpoint").exists()
    names = {path.name for path in out.iterdir()}
    assert names == {
        "model",
        "plan.json",
        "manifest.json",
        "report.json",
        "report.html",
        "report.csv",
        "log.jsonl",
    }
    manifest = json.loads((out / "manifest.json").read_text())
    assert mismatches(out, manifest) == []
    assert {item["ok"] for item in manifest["round_trip"]["checks"]} == {True, None}
    stated = manifest["source"]["files"]["model.safetensors"]["sha256"]
    assert stated == sha256_of(tiny_folder(family) / "model.safetensors")
    assert CompressionReport.from_dict(json.loads((out / "report.json").read_text())) == report
    assert list(dict.fromkeys(event.stage for event in seen)) == list(STAGES)
    shares = [event.overall for event in seen]
    assert shares == sorted(shares)
    assert report.perplexity[f"text:{TEXT}"].calibration_text
    assert any("refit" in note for note in report.notes) == (family == "opt-after")


@pytest.mark.parametrize("method", ["shortgpt", "sleb+absorb", "random+tune", "laco", "last"])
def test_a_baseline_goes_through(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, trusting: None, method: str
) -> None:
    spec = CompressionSpec.from_dict({**spec_of(tiny_folder("llama")).to_dict(), "method": method})
    report = compress(spec, workdir=tmp_path / "out", policy=policy)
    assert report.plan.method == method
    assert bool(report.refitted_layers) == method.endswith("+absorb")
    assert bool(report.stage2) == bool(report.resources.gradient_tokens) == method.endswith("+tune")
    if method == "last":
        assert report.plan.removed == (3, 4)


def test_the_same_spec_gives_the_same_plan_and_weights(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, trusting: None
) -> None:
    spec = spec_of(tiny_folder("llama"))
    for name in ("one", "other"):
        compress(spec, workdir=tmp_path / name, policy=policy)
    same_result(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize("schedule", ["split", "removed", "penalty", "anneal"])
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_it_goes_on_from_wherever_it_was_stopped(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, trusting: None, schedule: str, trainable: str
) -> None:
    spec = spec_of(tiny_folder("llama"), schedule=schedule, trainable=trainable)
    asked, until_surgery = 0, 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    def note(event: Progress) -> None:
        nonlocal until_surgery
        until_surgery = asked if event.stage == "surgery" else until_surgery

    compress(spec, workdir=tmp_path / "whole", policy=policy, should_stop=count, on_progress=note)
    for at in range(1, until_surgery, max(1, until_surgery // 5)):
        out = tmp_path / f"stopped-{at}"
        left = iter(range(at))
        with pytest.raises(Cancelled):
            compress(spec, workdir=out, policy=policy, should_stop=lambda left=left: next(left, None) is None)
        compress(spec, workdir=out, policy=policy)
        same_result(tmp_path / "whole", out)


def test_an_error_in_any_stage_loses_nothing(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, trusting: None
) -> None:
    spec = spec_of(tiny_folder("llama"))
    compress(spec, workdir=tmp_path / "whole", policy=policy)
    for stage in STAGES[3:]:
        out = tmp_path / stage

        def break_at(event: Progress, stage: str = stage) -> None:
            if event.stage == stage:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            compress(spec, workdir=out, policy=policy, on_progress=break_at)
        assert not (out / "manifest.json").exists()
        compress(spec, workdir=out, policy=policy)
        same_result(tmp_path / "whole", out)


def test_a_finished_folder_answers_with_its_report(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, trusting: None
) -> None:
    spec = spec_of(tiny_folder("llama"))
    first = compress(spec, workdir=tmp_path / "out", policy=policy)
    seen: list[Progress] = []
    assert compress(spec, workdir=tmp_path / "out", policy=policy, on_progress=seen.append) == first
    assert seen == []


def test_another_spec_is_refused_and_the_difference_named(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy
) -> None:
    model = tiny_folder("llama")
    make_plan(spec_of(model), workdir=tmp_path / "out", policy=policy)
    with pytest.raises(OutputRefused, match=r"another method\.lambda1"):
        compress(spec_of(model, lambda1=0.5), workdir=tmp_path / "out", policy=policy)


def test_a_folder_with_other_things_is_refused_and_left_alone(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputRefused, match="neither empty nor a checkpoint"):
        compress(spec_of(tiny_folder("llama")), workdir=tmp_path, policy=policy)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_model_that_changed_under_a_checkpoint_is_noticed(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder("llama"), copy)
    make_plan(spec_of(copy), workdir=tmp_path / "out", policy=policy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    with pytest.raises(OutputRefused, match="changed"):
        compress(spec_of(copy), workdir=tmp_path / "out", policy=policy)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"target": {"layers_to_remove": 5}}, "at most 4"),
        ({"target": {"sparsity": 0.99}}, "sparsity 0."),
        ({"target": {"speedup": 3.1}}, "more than 3 times"),
        ({"target": {"max_perplexity_ratio": 1.3}, "method": "shortgpt+tune"}, "does not measure"),
        ({"target": {"max_params": 10}}, "parameters are left"),
        ({"calibration": {"set": "python-docs", "sequence_length": 4096}}, "at most 128"),
        ({"evaluation": {"window_length": 4096}}, "at most 128"),
        ({"device": "cuda:99"}, "CUDA devices"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, change: dict[str, Any], word: str
) -> None:
    spec = CompressionSpec.from_dict({**spec_of(tiny_folder("llama")).to_dict(), **change})
    with pytest.raises(InputRefused, match=word):
        compress(spec, workdir=tmp_path / "out", policy=policy)
    assert not (tmp_path / "out").exists()


def test_a_text_shorter_than_a_window_is_refused(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy
) -> None:
    (tmp_path / "short.txt").write_text("too short")
    spec = CompressionSpec.from_dict(
        {
            **spec_of(tiny_folder("llama")).to_dict(),
            "calibration": {"set": f"text:{tmp_path / 'short.txt'}", "sequence_length": 32},
        }
    )
    with pytest.raises(InputRefused, match="short"):
        compress(spec, workdir=tmp_path / "out", policy=policy)


def test_max_params_is_reached(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, trusting: None
) -> None:
    model = tiny_folder("llama")
    dense = sum(item.numel() for item in AutoModelForCausalLM.from_pretrained(model).parameters())
    base = spec_of(model).to_dict()
    spec = CompressionSpec.from_dict({**base, "target": {"max_params": dense - 1}})
    report = compress(spec, workdir=tmp_path / "out", policy=policy)
    assert report.size.pruned_parameters < dense
    assert len(report.plan.order) == 1


def test_a_broken_result_fails_the_job(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(folder: Path, reference: Path, **options: Any) -> object:
        from safetensors.torch import load_file, save_file

        file = folder / "model.safetensors"
        tensors = load_file(file)
        tensors["model.norm.weight"] *= 1.5
        save_file(tensors, file, metadata={"format": "pt"})
        return round_trip(folder, reference, **options)

    monkeypatch.setattr("trsp_core.job.round_trip", damaged)
    with pytest.raises(RoundTripFailed, match="logit difference"):
        compress(spec_of(tiny_folder("llama")), workdir=tmp_path / "out", policy=policy)
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_full_disk_is_named_and_the_work_goes_on_afterwards(
    tmp_path: Path, tiny_folder: Tiny, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from trsp_core.workspace import Workspace

    spec = spec_of(tiny_folder("llama"))
    real = Workspace.save_tensors

    def full(self: Workspace, *args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self.checkpoint))

    monkeypatch.setattr(Workspace, "save_tensors", full)
    with pytest.raises(StorageFull, match="free some room"):
        compress(spec, workdir=tmp_path / "out", policy=policy)
    monkeypatch.setattr(Workspace, "save_tensors", real)
    assert compress(spec, workdir=tmp_path / "out", policy=policy).round_trip.ok


@pytest.mark.usefixtures("trusting")
def test_gates_on_parts_go_into_the_report(tiny_folder: Tiny, tmp_path: Path, policy: SourcePolicy) -> None:
    spec = spec_of(tiny_folder("llama"), candidates="gates", gate_parts="attention+mlp", stage2_steps=0)
    report = compress(spec, workdir=tmp_path / "out", policy=policy)
    written = json.loads((tmp_path / "out/report.json").read_text())
    for choice, item in zip(report.plan.rounds, written["plan"]["rounds"], strict=True):
        assert item["part_scores"].keys() == {"attention", "mlp"}
        for layer, score in item["scores"].items():
            parts = [item["part_scores"][name][layer] for name in ("attention", "mlp")]
            assert score == pytest.approx(sum(parts) / 2)
        assert choice.part_scores["mlp"][choice.layer] == item["part_scores"]["mlp"][str(choice.layer)]


def test_an_optimizer_that_the_device_has_not_is_refused_before_the_folder_is_taken(
    tiny_folder: Tiny, tmp_path: Path, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trsp_core.method_checks.find_spec", lambda _: object())
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    spec = spec_of(tiny_folder("llama"), optimizer="adamw8bit")
    with pytest.raises(InputRefused, match="does not serve on cpu"):
        compress(spec, workdir=tmp_path / "out", policy=policy)
    assert not (tmp_path / "out").exists()

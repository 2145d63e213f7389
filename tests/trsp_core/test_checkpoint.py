"""Loading adds no copy and makes nothing up; saving gives a plain folder, whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from tests.trsp_core.conftest import FAMILIES, VOCABULARY, tiny_model
from trsp_core.checkpoint import load_model, load_tokenizer, save_model
from trsp_core.errors import ModelRefused, OutputRefused
from trsp_core.sources import SourcePolicy, resolve
from trsp_core.surgery import pruned_view

CPU = torch.device("cpu")
TinyFolder = Callable[[str], Path]


@pytest.mark.parametrize("family", FAMILIES)
def test_loaded_weights_are_those_saved(family: str, tiny_folder: TinyFolder) -> None:
    model = load_model(tiny_folder(family), dtype=torch.float32, device=CPU)
    expected = tiny_model(family).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert model.config._attn_implementation == "sdpa"


def test_writing_to_a_weight_leaves_the_file(tiny_folder: TinyFolder) -> None:
    file = tiny_folder("llama") / "model.safetensors"
    before = file.read_bytes()
    model = load_model(tiny_folder("llama"), dtype=torch.float32, device=CPU)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert file.read_bytes() == before


def test_loading_is_silent_and_leaves_the_verbosity(
    tiny_folder: TinyFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_model(tiny_folder("llama"), dtype=torch.float32, device=CPU)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (verbosity, bars)


def test_loading_adds_at_most_one_copy(tmp_path: Path) -> None:
    tiny_model("llama", hidden_size=1024, intermediate_size=4096, num_attention_heads=8).save_pretrained(
        tmp_path
    )
    size = (tmp_path / "model.safetensors").stat().st_size
    code = (
        "import resource, torch; from pathlib import Path; from trsp_core.checkpoint import load_model\n"
        "from transformers import LlamaForCausalLM\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\n"
        f"model = load_model(Path({str(tmp_path)!r}), dtype=torch.float32, device=torch.device('cpu'))\n"
        "sum(float(parameter.detach().sum()) for parameter in model.parameters())\n"
        "print(peak() - before)"
    )
    added = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert added < 1.25 * size + 40 * 2**20


def spoilt(folder: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("model.norm.weight"), "missing"),
        (lambda t: t.update({"model.extra.weight": torch.ones(2)}), "not part of the model"),
        (lambda t: t.update({"model.norm.weight": torch.ones(7)}), "another shape"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, torch.Tensor]], None], said: str, tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    folder = spoilt(tiny_folder("llama"), tmp_path / "spoilt", change)
    with pytest.raises(ModelRefused, match=said):
        load_model(folder, dtype=torch.float32, device=CPU)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    with pytest.raises(ModelRefused, match="tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_folder_is_plain_and_whole(
    family: str, dtype: torch.dtype, tiny_folder: TinyFolder, tmp_path: Path, policy: SourcePolicy
) -> None:
    source = tiny_folder(family)
    model = load_model(source, dtype=torch.float32, device=CPU)
    view = pruned_view(model, (0, 3, 5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_model(view, tmp_path / "out", source_folder=source, dtype=dtype, card="What was done.")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    resolve(str(tmp_path / "out"), policy)
    reloaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=dtype)
    assert all(
        torch.equal(value, view.state_dict()[name].to(dtype)) for name, value in reloaded.state_dict().items()
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "out").vocab_size == VOCABULARY
    assert "What was done." in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "out" / "LICENSE").is_file()


def test_tied_weights_stay_one_when_cast(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    model = load_model(tiny_folder("llama"), dtype=torch.float32, device=CPU)
    save_model(model, tmp_path / "out", source_folder=tiny_folder("llama"), dtype=torch.float16)
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True


def test_the_stated_precision_is_the_stored_one(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    model = load_model(tiny_folder("opt"), dtype=torch.float32, device=CPU)
    save_model(model, tmp_path / "out", source_folder=tiny_folder("opt"), dtype=torch.float16)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float16"
    assert model.config.dtype in (torch.float32, "float32")


def test_a_card_is_put_behind_the_sources(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny_folder("llama"), tmp_path / "source"))
    (source / "README.md").write_text("---\nlicense: mit\n---\n# The model\n")
    model = load_model(source, dtype=torch.float32, device=CPU)
    save_model(model, tmp_path / "out", source_folder=source, dtype=torch.float32, card="What was done.")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card == "---\nlicense: mit\n---\n# The model\n\nWhat was done.\n"


def test_a_folder_that_is_not_empty_stays_unless_told(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    source = tiny_folder("llama")
    model = load_model(source, dtype=torch.float32, device=CPU)
    (tmp_path / "mine").touch()
    with pytest.raises(OutputRefused, match="not empty"):
        save_model(model, tmp_path, source_folder=source, dtype=torch.float32)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    save_model(model, tmp_path / "out", source_folder=source, dtype=torch.float32, replace=True)
    assert not (tmp_path / "out" / "old").exists()


def test_a_failed_save_leaves_nothing(
    tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_folder("llama"), dtype=torch.float32, device=CPU)

    def fail(*args: Any, **options: Any) -> None:
        raise OSError("broken disk")

    monkeypatch.setattr(model, "save_pretrained", fail)
    with pytest.raises(OSError, match="broken disk"):
        save_model(model, tmp_path / "out", source_folder=tiny_folder("llama"), dtype=torch.float32)
    assert not list(tmp_path.iterdir())

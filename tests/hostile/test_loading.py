"""What passes the headers and would hurt when it is loaded is refused there; code beside it is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch

from tests.hostile.conftest import Spoil
from tests.hostile.load_cases import HARMLESS, MODEL_CASES, TOKENIZER_CASES
from tests.hostile.spoiling import MARKER, Case, bounded
from trsp_core.checkpoint import load_model, load_tokenizer
from trsp_core.errors import ModelRefused
from trsp_core.files import sha256_of
from trsp_core.sources import SourcePolicy, resolve
from trsp_core.surgery import remove_streamed

CPU = torch.device("cpu")
pytestmark = pytest.mark.timeout(60)


def loaded(folder: Path) -> Any:
    return load_model(folder, dtype=torch.float32, device=CPU)


@pytest.fixture
def no_template_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a template of the model was rendered")

    for name in ("render", "generate", "stream"):
        monkeypatch.setattr(jinja2.Template, name, never)


@pytest.mark.parametrize("name", MODEL_CASES)
def test_a_model_is_refused_when_it_is_loaded(name: str, spoiled: Spoil, policy: SourcePolicy) -> None:
    folder = spoiled(MODEL_CASES[name])
    resolve(str(folder), policy)
    with bounded(), pytest.raises(ModelRefused) as caught:
        loaded(folder)
    assert MODEL_CASES[name].said in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", TOKENIZER_CASES)
def test_a_tokenizer_is_refused_when_it_is_loaded(name: str, spoiled: Spoil, policy: SourcePolicy) -> None:
    folder = spoiled(TOKENIZER_CASES[name])
    resolve(str(folder), policy)
    with bounded(), pytest.raises(ModelRefused) as caught:
        load_tokenizer(folder)
    assert TOKENIZER_CASES[name].said in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_never_read_does_no_harm(
    name: str,
    spoiled: Spoil,
    policy: SourcePolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_template_runs: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = spoiled(Case(HARMLESS[name], ""))
    resolve(str(folder), policy)
    with bounded():
        loaded(folder)
        load_tokenizer(folder)
        remove_streamed(folder, tmp_path / "out", [0, 5])
    assert not (tmp_path / MARKER).exists()
    assert not list((tmp_path / "out").glob("*.bin")) + list((tmp_path / "out").glob("*.pt"))


def test_removal_copies_weights_that_are_not_finite(spoiled: Spoil, tmp_path: Path) -> None:
    """Surgery moves bytes and says nothing about them; a model that cannot work is refused where it works."""
    folder = spoiled(MODEL_CASES["NaN in a layer"])
    remove_streamed(folder, tmp_path / "out", list(range(6)))
    names = [path / "model.safetensors" for path in (folder, tmp_path / "out")]
    assert sha256_of(names[0]) == sha256_of(names[1])

"""Remembered models: the very same files are not read twice, and no change of them goes unseen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trsp_core.errors import ModelRefused
from trsp_core.sources import Lookups, SourcePolicy, lookups


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was looked at anew; files count as settled at once."""
    seen: list[str] = []
    plain = lookups.look

    def counting(reference: str, policy: SourcePolicy) -> lookups.Looked:
        seen.append(reference)
        return plain(reference, policy)

    monkeypatch.setattr(lookups, "look", counting)
    monkeypatch.setattr(lookups, "SETTLED_SECONDS", -60)
    return seen


@pytest.fixture
def model(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Path:
    """A model's folder that may be changed."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))


@pytest.fixture
def policy(tmp_path: Path) -> SourcePolicy:
    return SourcePolicy(roots=(tmp_path,), cache_dir=tmp_path / "cache")


def test_the_same_files_are_looked_at_once(model: Path, policy: SourcePolicy, looked: list[str]) -> None:
    known = Lookups()
    assert known.look(str(model), policy) is known.look(str(model), policy)
    assert looked == [str(model)]


def _rewrite(model: Path) -> None:
    """Write other bytes of the same length, and set the times back."""
    path = model / "model.safetensors"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-4] + b"\1\2\3\4")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        _rewrite,
        lambda model: (model / "generation_config.json").write_text("{}"),
        lambda model: (model / "below").mkdir(),
    ],
)
def test_a_change_is_seen(
    model: Path, policy: SourcePolicy, looked: list[str], change: Callable[[Path], object]
) -> None:
    known = Lookups()
    known.look(str(model), policy)
    change(model)
    known.look(str(model), policy)
    assert len(looked) == 2


def test_code_that_is_added_is_refused(model: Path, policy: SourcePolicy, looked: list[str]) -> None:
    known = Lookups()
    known.look(str(model), policy)
    (model / "modeling.py").write_text("")
    with pytest.raises(ModelRefused, match="code file"):
        known.look(str(model), policy)
    (model / "modeling.py").unlink()
    known.look(str(model), policy)
    assert len(looked) == 3


def test_a_link_that_leads_elsewhere_is_followed_anew(
    tmp_path: Path, model: Path, policy: SourcePolicy, looked: list[str], tiny_folder: Callable[[str], Path]
) -> None:
    other = shutil.copytree(tiny_folder("qwen2"), tmp_path / "other")
    link, known = tmp_path / "link", Lookups()
    link.symlink_to(model)
    assert known.look(str(link), policy).facts.model_type == "llama"
    link.unlink()
    link.symlink_to(other)
    assert known.look(str(link), policy).facts.model_type == "qwen2"


def test_a_model_that_is_gone_is_refused(model: Path, policy: SourcePolicy, looked: list[str]) -> None:
    known = Lookups()
    known.look(str(model), policy)
    shutil.rmtree(model)
    with pytest.raises(ModelRefused, match="is no folder"):
        known.look(str(model), policy)


def test_what_one_policy_allows_another_may_refuse(
    tmp_path: Path, model: Path, policy: SourcePolicy, looked: list[str]
) -> None:
    known = Lookups()
    known.look(str(model), policy)
    with pytest.raises(ModelRefused, match="outside"):
        known.look(str(model), SourcePolicy(roots=(tmp_path / "elsewhere",)))


def test_files_that_may_still_change_unseen_are_not_remembered(
    model: Path, policy: SourcePolicy, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "SETTLED_SECONDS", 60)
    known = Lookups()
    known.look(str(model), policy)
    known.look(str(model), policy)
    assert len(looked) == 2


def test_no_more_than_so_many_are_remembered(
    tmp_path: Path, model: Path, policy: SourcePolicy, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MOST_MODELS", 2)
    known, names = Lookups(), [str(tmp_path / f"name-{number}") for number in range(3)]
    for name in names:
        Path(name).symlink_to(model)
        known.look(name, policy)
    known.look(names[2], policy)
    known.look(names[0], policy)
    assert looked == [*names, names[0]]

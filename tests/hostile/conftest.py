"""Right models that a case may spoil, and what is asked of every refusal."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.spoiling import MARKER, Case
from tests.trsp_core.conftest import save_tiny
from trsp_core.sources import SourcePolicy

Spoil = Callable[[Case], Path]


@pytest.fixture(scope="session")
def right_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that nothing is wrong with."""
    return save_tiny(tmp_path_factory.mktemp("right"), "llama")


@pytest.fixture
def policy(tmp_path: Path) -> SourcePolicy:
    """A policy whose only root is the test's own folder."""
    return SourcePolicy(roots=(tmp_path, Path("/dev")), cache_dir=tmp_path / "cache", dataset_root=None)


@pytest.fixture
def spoiled(right_folder: Path, tmp_path: Path) -> Spoil:
    """Return the folder of a model that a case has spoiled."""

    def spoil(case: Case) -> Path:
        folder = Path(shutil.copytree(right_folder, tmp_path / "model"))
        case.spoil(folder)
        return folder

    return spoil


@pytest.fixture(autouse=True)
def nothing_was_executed(tmp_path: Path) -> object:
    """Fail where anything that a case put into a model left its mark."""
    yield
    assert not list(tmp_path.rglob(MARKER))

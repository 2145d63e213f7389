import json
from pathlib import Path

import pytest
import torch

from trsp_core.config import CompressionSpec
from trsp_core.errors import OutputRefused
from trsp_core.progress import STAGES, Progress
from trsp_core.reporting import SHARES, Reporter
from trsp_core.workspace import Workspace

SPEC = CompressionSpec.from_dict({"model": "m", "sparsity": 0.25, "calibration": "c4"})


def test_tensors_and_what_is_said_of_them_come_back(tmp_path: Path) -> None:
    space = Workspace.open(tmp_path / "out", SPEC)
    assert space.load_tensors("state") is None
    space.save_tensors("state", {"a": torch.arange(6).view(2, 3).T}, {"step": 3})
    tensors, about = space.load_tensors("state") or ({}, {})
    assert torch.equal(tensors["a"], torch.arange(6).view(2, 3).T)
    assert about == {"step": 3}
    space.drop("state")
    assert space.load_tensors("state") is None


def test_a_write_that_breaks_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Workspace.open(tmp_path / "out", SPEC)
    space.save_tensors("state", {"a": torch.zeros(2)}, {"step": 1})

    def broken(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trsp_core.workspace.sync_file", broken)
    with pytest.raises(OSError, match="No space"):
        space.save_tensors("state", {"a": torch.ones(2)}, {"step": 2})
    tensors, about = space.load_tensors("state") or ({}, {})
    assert about == {"step": 1}
    assert tensors["a"].tolist() == [0.0, 0.0]


def test_a_folder_is_taken_again_by_the_same_spec_only(tmp_path: Path) -> None:
    Workspace.open(tmp_path / "out", SPEC)
    assert Workspace.open(tmp_path / "out", SPEC).started_at
    other = CompressionSpec.from_dict({"model": "m", "sparsity": 0.5, "calibration": "c4"})
    with pytest.raises(OutputRefused, match=r"another target\.sparsity"):
        Workspace.open(tmp_path / "out", other)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputRefused):
        Workspace.open(tmp_path / "out", SPEC)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputRefused, match="cannot be written"):
        Workspace.open(tmp_path / "file" / "out", SPEC)


def test_progress_never_falls_and_ends_at_one(tmp_path: Path) -> None:
    seen: list[Progress] = []
    reporter = Reporter(seen.append, Workspace.open(tmp_path / "out", SPEC))
    for stage in STAGES:
        reporter.begin(stage, 4, "begins", done=1)
        for step in (2, 3, 4, 3):
            reporter.step(step, 4)
    reporter.finish()
    shares = [event.overall for event in seen]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert set(reporter.timings) == set(STAGES)
    assert seen[0].eta_seconds is None
    assert seen[1].eta_seconds is not None
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines] == [event.stage for event in seen]

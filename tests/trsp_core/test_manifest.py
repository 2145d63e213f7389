"""The manifest names every result, byte for byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from trsp_core.files import write_json_atomically
from trsp_core.manifest import NAME, build_manifest, mismatches
from trsp_core.results import ModelFacts, PruningPlan
from trsp_core.sources import Source

FACTS = ModelFacts("ref", "abc", "llama", 4, 100, (20, 20, 20, 20), 8, 10, 64, 400, "float32")


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    for name in (
        "model/model.safetensors",
        "report.json",
        "checkpoint/state",
        "log.jsonl",
        ".x.part/f",
        "model/.t",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def manifest(workdir: Path) -> dict[str, Any]:
    return build_manifest(
        workdir,
        source=Source("ref", "folder", workdir, "abc"),
        source_files={"config.json": {"sha256": "1" * 64, "bytes": 5}},
        facts=FACTS,
        plan=PruningPlan("trsp", 4, (2, 0)),
        calibration_sha256="0" * 64,
        spec={"model": "ref"},
        seed=7,
        environment={"torch": "2"},
        round_trip={"ok": True, "checks": [{"name": "logits"}]},
    )


def test_results_are_listed_with_hash_and_size(workdir: Path) -> None:
    files = manifest(workdir)["files"]
    assert set(files) == {"model/model.safetensors", "report.json"}
    assert files["report.json"] == {"sha256": hashlib.sha256(b"report.json").hexdigest(), "bytes": 11}


def test_layers_are_mapped_to_the_source(workdir: Path) -> None:
    built = manifest(workdir)
    assert built["layer_map"] == {"0": 1, "1": 3}
    assert built["removed_layers"] == [0, 2]
    assert built["source"] == {
        "reference": "ref",
        "kind": "folder",
        "revision": "abc",
        "files": {"config.json": {"sha256": "1" * 64, "bytes": 5}},
    }
    assert (built["kind"], built["round_trip"]["checks"]) == ("compression", [{"name": "logits"}])
    assert (built["seed"], built["spec"], built["model"]["parameters"]) == (7, {"model": "ref"}, 100)


def test_it_is_json_and_does_not_list_itself(workdir: Path) -> None:
    built = manifest(workdir)
    write_json_atomically(workdir / NAME, built)
    assert json.loads((workdir / NAME).read_text()) == built
    assert manifest(workdir) == built


def test_changed_and_missing_files_are_found(workdir: Path) -> None:
    built = manifest(workdir)
    assert mismatches(workdir, built) == []
    (workdir / "report.json").write_text("report.jsom")
    (workdir / "model" / "model.safetensors").unlink()
    assert mismatches(workdir, built) == ["model/model.safetensors", "report.json"]

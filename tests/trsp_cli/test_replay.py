"""`trsp replay`: equal results, changed sources, changed results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trsp_cli.conftest import Said
from tests.trsp_cli.local_work import HELD, PRUNE, TWO, tree
from trsp_cli.main import run
from trsp_core.round_trip_child import load
from trsp_core.sources import SourcePolicy, resolve

Trsp = Callable[..., Said]


@pytest.fixture(scope="session")
def pruned(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of `trsp prune`, made once."""
    out = tmp_path_factory.mktemp("pruned") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(furnished)
        patch.setattr("trsp_core.job.round_trip", lambda *_, **__: HELD)
        assert run([*PRUNE, *TWO, "--out", str(out)]) == 0
    return out


@pytest.fixture
def result(pruned: Path, here: Path, trusting: None) -> Path:
    """A copy of that result beside the model and the text that it was made from."""
    return Path(shutil.copytree(pruned, here / "out"))


@pytest.fixture
def removed(trsp: Trsp, here: Path) -> Path:
    """A result of `trsp remove`."""
    assert trsp("remove", "llama", "--layers", "1,4", "--out", "small", "--manifest").code == 0
    return here / "small"


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def flip(file: Path) -> None:
    """Change the last byte."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


# Compressions


def test_the_same_is_made_again(trsp: Trsp, here: Path, result: Path) -> None:
    said = trsp("replay", "out/manifest.json")
    assert said.code == 0, said.err
    head, *rows, summary, place = said.out.splitlines()
    assert head.split("  ")[0] == "file"
    names = {row.split()[0] for row in rows}
    assert {"plan.json", "model/model.safetensors", "model/config.json", "model/tokenizer.json"} <= names
    assert not any("report" in name for name in names)
    assert all(row.split()[1:] == ["equal", "equal"] for row in rows)
    assert summary.startswith(f"all {len(rows)} files are the same; reports")
    assert place.split() == ["out", str(here / "out-replay")]
    assert "stage1" in said.err
    again = trsp("replay", "out")
    assert again.code == 2
    assert "holds a finished result" in again.err


def test_what_was_changed_is_named_with_what_differs_around_it(trsp: Trsp, here: Path, result: Path) -> None:
    def other(manifest: dict[str, Any]) -> None:
        manifest["files"]["model/config.json"]["sha256"] = "0" * 64
        manifest["environment"].update(threads=99, torch="1.0")

    edit(result / "manifest.json", other)
    flip(result / "model" / "model.safetensors")
    said = trsp("--json", "replay", "out", "--out", "again")
    assert said.code == 1
    found = {item["name"]: item for item in said.json["files"]}
    assert not said.json["equal"]
    wrong = [name for name, item in found.items() if not item["equal"]]
    touched = [name for name, item in found.items() if not item["untouched"]]
    assert (wrong, touched) == (["model/config.json"], ["model/config.json", "model/model.safetensors"])
    environment = said.json["environment"]
    assert set(environment) == {"threads", "torch"}
    assert environment["threads"] == {"then": 99, "now": torch.get_num_threads()}
    last = said.err.splitlines()[-1]
    assert "not made again as the manifest says: model/config.json;" in last
    assert "changed beside the manifest: model/config.json, model/model.safetensors;" in last
    assert "torch (1.0 then, " in last


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "LICENSE"])
def test_another_source_is_refused_before_any_work(trsp: Trsp, here: Path, result: Path, name: str) -> None:
    with (here / "llama" / name).open("r+b") as file:
        text = file.read()
        file.seek(0)
        file.write(text.replace(b"a licence", b"A licence") if name == "LICENSE" else text)
        if name == "model.safetensors":
            file.seek(-1, 2)
            file.write(bytes([text[-1] ^ 1]))
        elif name != "LICENSE":
            file.write(b"\n")
    before = tree(here)
    said = trsp("--json", "replay", "out")
    assert (said.code, said.json["error"]["code"]) == (2, "model_refused")
    (problem,) = said.json["error"]["errors"]
    assert f"{name} has the SHA-256" in problem["message"]
    assert tree(here) == before


def test_another_text_is_refused_before_any_work(trsp: Trsp, here: Path, result: Path) -> None:
    (here / "text.txt").write_text("other words " * 800)
    said = trsp("replay", "out")
    assert said.code == 2
    assert "error --calibration: text:text.txt gives other tokens" in said.err
    assert not (here / "out-replay").exists()


# Removals


def test_a_removal_is_made_again(trsp: Trsp, here: Path, removed: Path) -> None:
    manifest = json.loads((removed / "trsp_manifest.json").read_text())
    assert manifest["layer_map"] == {"0": 0, "1": 2, "2": 3, "3": 5}
    assert (manifest["kind"], manifest["removed_layers"]) == ("removal", [1, 4])
    assert set(manifest["files"]) == tree(removed) - {"trsp_manifest.json"}
    said = trsp("replay", "small", "--json")
    assert said.code == 0, said.err
    assert (said.json["equal"], said.json["kind"]) == (True, "removal")
    assert {item["name"] for item in said.json["files"]} == set(manifest["files"]) - {"README.md"}
    assert json.loads((here / "small-replay" / "trsp_manifest.json").read_text()) == manifest


def test_a_removal_s_manifest_is_in_nobody_s_way(trsp: Trsp, here: Path, removed: Path) -> None:
    _, said = load(str(removed), torch.float32, "cpu")
    assert said == []
    assert resolve(str(removed), SourcePolicy()).kind == "folder"
    assert trsp("remove", "small", "--layers", "0", "--out", "smaller", "--manifest").code == 0
    again = json.loads((here / "smaller" / "trsp_manifest.json").read_text())
    assert again["layer_map"] == {"0": 1, "1": 2, "2": 3}
    assert "trsp_manifest.json" not in again["source"]["files"]


def test_a_source_that_moved_is_asked_for(trsp: Trsp, here: Path, removed: Path) -> None:
    (here / "llama").rename(here / "moved")
    said = trsp("replay", "small")
    assert said.code == 2
    assert (
        "error --model: is not given, and the manifest's model llama cannot be used: llama is no folder"
        in (said.err)
    )
    assert "Say with --model where it is now." in said.err
    shutil.move(removed / "trsp_manifest.json", here / "alone.json")
    found = trsp("replay", "alone.json", "--model", "moved", "--out", "again", "--json")
    assert found.code == 0, found.err
    assert found.json["equal"]
    assert all(item["untouched"] is None for item in found.json["files"])


def test_a_file_too_many_or_too_few_is_another_source(trsp: Trsp, here: Path, removed: Path) -> None:
    (here / "llama" / "LICENSE").rename(here / "llama" / "NOTICE")
    said = trsp("--json", "replay", "small")
    assert said.code == 2
    words = [item["message"] for item in said.json["error"]["errors"]]
    assert [("LICENSE is missing" in words[0]), ("NOTICE was not there" in words[1])] == [True, True]


def test_a_file_of_the_result_that_is_gone_is_noticed(trsp: Trsp, here: Path, removed: Path) -> None:
    (removed / "LICENSE").unlink()
    said = trsp("replay", "small")
    assert said.code == 1
    assert said.err.splitlines()[-1] == "error changed beside the manifest: LICENSE."
    assert next(row.split() for row in said.out.splitlines() if row.startswith("LICENSE")) == [
        "LICENSE",
        "equal",
        "missing",
    ]


# Manifests that are none


def _without(*path: str) -> Callable[[dict[str, Any]], object]:
    def change(manifest: dict[str, Any]) -> None:
        *outer, last = path
        for name in outer:
            manifest = manifest[name]
        del manifest[last]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("source", "files"), "kept no hashes of the source"),
        (_without("source"), "is no manifest"),
        (_without("calibration_sha256"), "is no manifest"),
        (_without("layer_map", "0"), "is no manifest"),
        (lambda manifest: manifest.update(kind="other"), "is no manifest"),
        (lambda manifest: manifest.update(files=["model"]), "is no manifest"),
        (lambda manifest: manifest.update(layer_map={}), "is no manifest"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(
    trsp: Trsp, here: Path, pruned: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    shutil.copy(pruned / "manifest.json", here / "manifest.json")
    edit(here / "manifest.json", change)
    said = trsp("replay", "manifest.json")
    assert said.code == 2
    assert words in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read: No such file"), ("{", "is no manifest"), ("[1]", "is no manifest")],
)
def test_no_manifest_at_all_is_refused(trsp: Trsp, here: Path, text: str | None, words: str) -> None:
    if text is not None:
        (here / "manifest.json").write_text(text)
    said = trsp("replay", "manifest.json")
    assert said.code == 2
    assert words in said.err

"""A tiny model and texts in a folder, and the arguments of quick commands on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.trsp_core.conftest import save_tiny
from trsp_core.results import RoundTrip

WINDOWS = ("--windows", "3", "--window-length", "32")
TEXT = ("--calibration", "text:text.txt", "--sequences", "6", "--sequence-length", "32")
PERPLEXITY = ("--perplexity", "text:text.txt", *WINDOWS)
QUICK = ("--set", "stage1_steps=2", "--set", "stage2_steps=4", "--set", "batch_sequences=2")
PRUNE = ("prune", "llama", *TEXT, *PERPLEXITY, *QUICK)
TWO = ("--layers-to-remove", "2")
HELD = RoundTrip(True, 0.0, 1e-5, True, "not loaded in this test")
RESULT = {
    "model",
    "plan.json",
    "manifest.json",
    "report.json",
    "report.html",
    "report.csv",
    "log.jsonl",
}


def furnish(folder: Path) -> Path:
    """Put a model of six layers, texts, and folders that are to be refused into `folder`."""
    save_tiny(folder / "llama", "llama")
    (folder / "text.txt").write_text(" ".join(f"line {n} says {n * 37 % 101}." for n in range(400)))
    (folder / "empty.txt").write_text("")
    (folder / "short.txt").write_text("too short")
    (folder / "few.jsonl").write_text(json.dumps({"a name as long as a window of text": 1, "text": "few"}))
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("mine")
    _changed(folder / "unknown", {"model_type": "llamma"})
    _changed(folder / "coded", {"auto_map": {"AutoModelForCausalLM": "code.Model"}})
    _changed(folder / "pickled", {}).joinpath("model.safetensors").rename(
        folder / "pickled" / "pytorch_model.bin"
    )
    return folder


def _changed(folder: Path, changes: dict[str, Any]) -> Path:
    config = save_tiny(folder, "llama") / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    return folder


def tree(folder: Path) -> set[str]:
    """Return every path under `folder`."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}

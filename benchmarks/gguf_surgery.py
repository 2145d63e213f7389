"""GGUF surgery on the SmolLM2 file: time and peak memory of the whole command, and whether the result is right.

The command runs as a process of its own, five times; the median time and the highest peak count (processor
time and load tell whether the machine did other work beside it). The result is loaded by transformers and its
perplexity on held-out Python documentation compared with that of the same removal done on the dequantised
model. Prints JSON; exit code 1 if a limit is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import machine
from transformers import AutoModelForCausalLM

from trsp_core.calibration.windows import evaluation_windows
from trsp_core.checkpoint import load_model, load_tokenizer
from trsp_core.evaluation.perplexity import loss_of_windows
from trsp_core.sets import parse_sets
from trsp_core.sources import SourcePolicy, gguf_file, inspect, materialize, resolve
from trsp_core.surgery import remove_streamed

MODEL = "demo:smollm2-135m"
REMOVED = (3, 12, 13)
RUNS = 5
WINDOWS, WINDOW = 4, 512
LIMITS = {"seconds": 2.0, "peak_rss_bytes": 150_000_000, "perplexity_difference": 1e-3}


_WATCH = """
import json, os, sys, time
began = time.monotonic()
process = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(process, 0)
seconds = round(time.monotonic() - began, 3)
cpu = round(used.ru_utime + used.ru_stime, 3)
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_rss_bytes": used.ru_maxrss * 1024}))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Run by a small process: a peak counts what the starting process held, and this one holds torch."""


def command(out: Path) -> dict[str, float]:
    """Run `trsp remove` once; return its wall-clock and processor seconds and its peak resident memory."""
    layers = ",".join(map(str, REMOVED))
    line = [sys.executable, "-m", "trsp_cli.main", "remove", MODEL, "--layers", layers, "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", _WATCH, *line], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def perplexities(result: Path, work: Path) -> dict[str, float]:
    """Return the perplexity of the cut file and of the same removal on the dequantised model."""
    policy = SourcePolicy()
    source = resolve(MODEL, policy)
    folder = materialize(source, policy)
    removal = [layer for layer in range(inspect(source).layers) if layer not in REMOVED]
    remove_streamed(folder, work / "folder", removal)
    reference = parse_sets("python-docs", "/set")[0]
    tokenizer = load_tokenizer(folder)
    text = evaluation_windows(reference, tokenizer, length=WINDOW, limit=WINDOWS, policy=policy)
    cut: Any = AutoModelForCausalLM.from_pretrained(
        result.parent, gguf_file=result.name, dtype=torch.float32, attn_implementation="sdpa"
    )
    found = {"gguf": loss_of_windows(cut.eval(), text.input_ids).perplexity}
    del cut
    dequantised = load_model(work / "folder", dtype=torch.float32, device=torch.device("cpu"))
    found["dequantised"] = loss_of_windows(dequantised, text.input_ids).perplexity
    return found


def measure(work: Path) -> dict[str, Any]:
    """Run the command and compare; return all figures."""
    runs = [command(work / f"{number}.gguf") for number in range(RUNS)]
    load = os.getloadavg()[0]
    found = perplexities(work / "0.gguf", work)
    difference = abs(found["gguf"] / found["dequantised"] - 1)
    source = gguf_file(MODEL, SourcePolicy())
    return {
        "source_bytes": source.stat().st_size if source else None,
        "result_bytes": (work / "0.gguf").stat().st_size,
        "removed_layers": list(REMOVED),
        "runs": runs,
        "load_average": round(load, 2),
        "judged": {
            "seconds": median(run["seconds"] for run in runs),
            "peak_rss_bytes": max(run["peak_rss_bytes"] for run in runs),
            "perplexity_difference": difference,
        },
        "limits": LIMITS,
        "perplexity": {**found, "windows": WINDOWS, "window_length": WINDOW},
    }


def main() -> None:
    """Measure, print, and say by the exit code whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        result = {"machine": machine(), **measure(Path(work))}
    text = json.dumps(result, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    sys.exit(any(result["judged"][name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    main()

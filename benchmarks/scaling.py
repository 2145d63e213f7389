"""Time and memory against tokens, layers and width on random Llamas, and what follows for 7B and 70B on one GPU.

Each measurement runs in a process of its own: a forward pass of all tokens, a round of stage 1, a refit, steps of
LoRA stage 2, and the refit of a model streamed from disk. Time and peak memory are fitted by straight lines in the
tokens and in the layers; the exit code says whether every point is near its line. The figures for 7B and 70B are
an ESTIMATE: memory by formulas that are held against the measured peaks here, time by the work of each task in
forward passes, as measured here, at an assumed speed of the GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from random_models import VOCABULARY, inner_width, write_llama

from trsp_core.budget import ACTIVATION_FLOATS, FORWARD_TOKENS, LEAST_BYTES, SHARE_OF_MODEL

TASKS = ("forward", "stage1", "absorb", "stage2", "streamed")
LARGE: Mapping[str, dict[str, int]] = {
    "7B": {"hidden": 4096, "inner": 11008, "layers": 32, "layer": 202_383_360, "ends": 262_144_000},
    "70B": {"hidden": 8192, "inner": 28672, "layers": 80, "layer": 855_654_400, "ends": 524_288_000},
}
"""LLaMA-2's sizes; `layer` and `ends` are parameters of a layer and of embedding and head together."""
MOMENTS = 6
"""Square matrices in double precision that a refit holds at its peak."""
KEPT_A_TRAINED_WEIGHT = 16
"""Bytes in fp32: value, gradient and AdamW's two moments."""


@dataclass(frozen=True)
class Point:
    """One measurement: what was run on which model."""

    task: str
    hidden: int
    layers: int
    tokens: int


@dataclass(frozen=True)
class Found:
    """What came out of it; bytes are beside the imports, seconds without loading."""

    point: Point
    parameters: int
    seconds: float
    peak_bytes: int
    predicted_bytes: int


def series(given: argparse.Namespace) -> dict[str, list[tuple[int, int, int]]]:
    """Return (hidden, layers, tokens) of each series."""
    return {
        "tokens": [(given.base_hidden, given.base_layers, tokens) for tokens in given.tokens],
        "layers": [(given.base_hidden, layers, given.base_tokens) for layers in given.layers],
        "hidden": [(hidden, given.base_layers, given.hidden_tokens) for hidden in given.hidden],
    }


def measured(point: Point, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run a measurement in a process of its own; returns what it prints."""
    request = {**asdict(point), "folder": str(folder), "length": given.length, "dtype": given.dtype}
    line = [sys.executable, str(Path(__file__).with_name("scaling_child.py")), json.dumps(request)]
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def predicted(point: Point, parameters: int, given: argparse.Namespace) -> int:
    """Return the bytes that the formulas give for a measured point."""
    itemsize = {"float32": 4, "bfloat16": 2}[given.dtype]
    ends = point.hidden * VOCABULARY
    size = {
        "hidden": point.hidden,
        "inner": inner_width(point.hidden),
        "layers": point.layers,
        "layer": (parameters - ends) // point.layers,
        "ends": ends,
    }
    return sum(memory_of(point.task, size, point.tokens, given.length, itemsize).values())


def memory_of(task: str, size: Mapping[str, int], tokens: int, length: int, itemsize: int) -> dict[str, int]:
    """Return the formula of a task's memory, by what needs it, in bytes.

    A streamed model holds its largest part; a refit two residual streams and its moments; stage 1 and stage 2
    the activations that `trsp_core.budget` plans for; adapters of rank 16 lie on seven maps a layer.
    """
    hidden, layers = size["hidden"], size["layers"]
    whole = size["layer"] * layers + size["ends"]
    part = max(size["layer"], size["ends"])
    batch = max(length, min(tokens, FORWARD_TOKENS)) * hidden * itemsize
    gradients = gradient_bytes(size, tokens, length, whole * itemsize) * itemsize // 4
    refit = {"streams": 2 * tokens * hidden * itemsize, "moments": MOMENTS * size["inner"] ** 2 * 8}
    adapters = layers * 16 * (4 * 2 * hidden + 3 * (hidden + size["inner"])) * KEPT_A_TRAINED_WEIGHT
    more: dict[str, dict[str, int]] = {
        "forward": {"activations": batch * ACTIVATION_FLOATS},
        "stage1": {"activations": gradients},
        "absorb": {**refit, "activations": batch * ACTIVATION_FLOATS},
        "stage2": {"activations": gradients, "adapters": adapters},
        "streamed": {**refit, "activations": batch * ACTIVATION_FLOATS},
    }
    return {"weights": (part if task == "streamed" else whole) * itemsize, **more[task]}


def gradient_bytes(size: Mapping[str, int], tokens: int, length: int, model_bytes: int) -> int:
    """Return the fp32 activations of one backward pass as `trsp_core.budget` cuts it."""
    budget = max(LEAST_BYTES, SHARE_OF_MODEL * model_bytes)
    stream = length * size["hidden"] * 4
    sequence = stream * ACTIVATION_FLOATS * size["layers"]
    if sequence > budget:
        sequence = stream * (size["layers"] + ACTIVATION_FLOATS)
    most = min(tokens, FORWARD_TOKENS) // length
    return sequence * max(1, min(most, int(budget // sequence)))


def run(given: argparse.Namespace, work: Path) -> dict[str, list[Found]]:
    """Measure every point of every series once; the series share points."""
    done: dict[Point, Found] = {}
    folders: dict[tuple[int, int], tuple[Path, int]] = {}
    for hidden, layers, tokens in sorted({place for places in series(given).values() for place in places}):
        if (hidden, layers) not in folders:
            folder = work / f"{hidden}x{layers}"
            folders[hidden, layers] = folder, write_llama(folder, hidden, layers, getattr(torch, given.dtype))
        folder, parameters = folders[hidden, layers]
        for task in given.tasks:
            point = Point(task, hidden, layers, tokens)
            seen = measured(point, folder, given)
            done[point] = Found(
                point, parameters, seen["seconds"], seen["peak_bytes"], predicted(point, parameters, given)
            )
            print(json.dumps(asdict(done[point])), file=sys.stderr)
    return {
        f"{name}/{task}": [done[Point(task, *place)] for place in places]
        for name, places in series(given).items()
        for task in given.tasks
    }


def line_through(xs: Sequence[float], ys: Sequence[float]) -> dict[str, Any]:
    """Return the least-squares line and the residuals as shares of the fitted values."""
    slope, start = np.polyfit(xs, ys, 1)
    fitted = [slope * x + start for x in xs]
    residuals = [round(float((y - f) / f), 4) for y, f in zip(ys, fitted, strict=True)]
    return {"slope": float(slope), "intercept": float(start), "residuals": residuals}


def fits(found: Mapping[str, list[Found]], tolerance: float) -> dict[str, Any]:
    """Fit time and memory of each task in the tokens and in the layers."""
    result = {}
    for name, points in found.items():
        along = name.partition("/")[0]
        if along == "hidden" or len(points) < 3:
            continue
        xs = [float(getattr(item.point, along)) for item in points]
        for figure in ("seconds", "peak_bytes"):
            line = line_through(xs, [float(getattr(item, figure)) for item in points])
            worst = max(abs(value) for value in line["residuals"])
            result[f"{figure} against {name}"] = {**line, "linear": worst <= tolerance}
    return result


def memory_check(found: Mapping[str, list[Found]]) -> dict[str, float]:
    """Return each task's predicted over measured memory at the largest measured width."""
    last = {name.partition("/")[2]: points[-1] for name, points in found.items() if name.startswith("hidden")}
    return {task: round(item.predicted_bytes / item.peak_bytes, 2) for task, item in last.items()}


def passes_of(found: Mapping[str, list[Found]]) -> dict[str, float]:
    """Return each task's time in forward passes over the same tokens, at the largest measured width."""
    last = {name.partition("/")[2]: points[-1] for name, points in found.items() if name.startswith("hidden")}
    return {task: round(item.seconds / last["forward"].seconds, 2) for task, item in last.items()}


def estimate(passes: Mapping[str, float], given: argparse.Namespace) -> dict[str, Any]:
    """Return what 7B and 70B would need on one GPU in bfloat16."""
    speed = given.gpu_tflops * 1e12 * given.utilisation
    result: dict[str, Any] = {
        "assumed": {
            "gpu_tflops": given.gpu_tflops,
            "utilisation": given.utilisation,
            "disk_gb_per_s": given.disk_gb_per_s,
            "tokens": given.large_tokens,
            "sequence_length": 2048,
            "dtype": "bfloat16",
        }
    }
    for name, size in LARGE.items():
        weights = size["layer"] * size["layers"] + size["ends"]
        forward = 2 * weights * given.large_tokens / speed
        rows = {}
        for task in given.tasks:
            parts = memory_of(task, size, given.large_tokens, 2048, 2)
            seconds = passes[task] * forward
            if task == "streamed":
                seconds = max(seconds, 2 * weights / (given.disk_gb_per_s * 1e9))
            on_host = parts.pop("moments", 0)
            rows[task] = {
                "gpu_gb": round(sum(parts.values()) / 1e9, 1),
                "host_gb": round(on_host / 1e9, 1),
                "of_which_gb": {key: round(value / 1e9, 1) for key, value in parts.items()},
                "minutes": round(seconds / 60, 1),
            }
        result[name] = rows
    return result


def numbers(text: str) -> list[int]:
    """Read `1,2,3`."""
    return [int(part) for part in text.split(",")]


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=numbers, default=[512, 1024, 2048, 4096])
    parser.add_argument("--layers", type=numbers, default=[4, 8, 12, 16])
    parser.add_argument("--hidden", type=numbers, default=[256, 640, 1280, 2560])
    parser.add_argument("--base-tokens", type=int, default=1024, help="tokens of the series over layers")
    parser.add_argument("--hidden-tokens", type=int, default=256, help="tokens of the series over widths")
    parser.add_argument("--base-layers", type=int, default=12)
    parser.add_argument("--base-hidden", type=int, default=512)
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(TASKS))
    parser.add_argument("--tolerance", type=float, default=0.15, help="largest residual, as a share")
    parser.add_argument("--gpu-tflops", type=float, default=990.0, help="dense bfloat16 peak of the GPU")
    parser.add_argument("--utilisation", type=float, default=0.35, help="assumed share of that peak")
    parser.add_argument("--disk-gb-per-s", type=float, default=2.0)
    parser.add_argument("--large-tokens", type=int, default=128 * 2048)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    """Measure, fit, estimate and print; exit code 1 if a fit is not linear."""
    given = arguments()
    with tempfile.TemporaryDirectory() as name:
        found = run(given, Path(name))
    fitted = fits(found, given.tolerance)
    passes = passes_of(found)
    report = {
        "machine": machine(),
        "tolerance": given.tolerance,
        "series": {name: [asdict(item) for item in points] for name, points in found.items()},
        "fits": fitted,
        "predicted_over_measured_memory": memory_check(found),
        "forward_passes": passes,
        "estimate": estimate(passes, given),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    sys.exit(not all(item["linear"] for item in fitted.values()))


if __name__ == "__main__":
    main()

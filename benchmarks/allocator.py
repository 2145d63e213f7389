"""What giving freed activations back at once does to the peak memory and the time of stage 2.

The same three LoRA steps of 1,024 tokens on SmolLM2-135M, in processes of their own, with and without
`returning_freed_memory`, interleaved. Prints JSON; with `--out FILE` it is written there too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from machine import machine

LAYERS = (5, 12, 13, 14, 16, 17, 25, 26)
SEQUENCES, LENGTH, STEPS = 12, 256, 3
MODES = ("as glibc likes", "returned", "returned, large pages")


def measure(mode: str) -> dict[str, float]:
    """Take the steps in this process; return its peak and the seconds a step."""
    import torch

    from trsp_core.allocator import returning_freed_memory
    from trsp_core.budget import plan_passes
    from trsp_core.calibration.windows import calibration_windows
    from trsp_core.checkpoint import load_model, load_tokenizer
    from trsp_core.decoder import Decoder
    from trsp_core.evaluation.memory import peak_rss_bytes
    from trsp_core.method_options import TrspOptions
    from trsp_core.sets import parse_sets
    from trsp_core.sources import SourcePolicy, materialize, resolve
    from trsp_core.stage2 import transfer
    from trsp_core.teacher import teacher_states
    from trsp_core.text import Text

    policy = SourcePolicy()
    folder = materialize(resolve("demo:smollm2-135m", policy), policy)
    text = calibration_windows(
        parse_sets("python-docs", "/set"),
        load_tokenizer(folder),
        sequences=SEQUENCES,
        length=LENGTH,
        seed=0,
        policy=policy,
    )
    model = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
    decoder = Decoder(model)
    passes = plan_passes(
        model, layers=len(decoder), hidden_size=model.config.hidden_size, sequence_length=LENGTH
    )
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "teacher.bin"
        teacher = teacher_states(decoder, text.input_ids, path=path, passes=passes)
        began = time.monotonic()
        with nullcontext() if mode == MODES[0] else returning_freed_memory():
            transfer(
                decoder,
                Text.of(text.input_ids),
                LAYERS,
                TrspOptions(stage2_steps=STEPS, batch_sequences=4),
                passes=passes,
                teacher=teacher,
                seed=0,
            )
        return {"peak_rss_bytes": peak_rss_bytes(), "step_seconds": (time.monotonic() - began) / STEPS}


def measured_apart(mode: str) -> dict[str, float]:
    """Measure in a process of its own."""
    pages = {"THP_MEM_ALLOC_ENABLE": "1" if mode == MODES[2] else "0"}
    command = [sys.executable, __file__, "--measure", mode]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **pages})
    return dict(json.loads(done.stdout))


def main() -> None:
    """Measure each mode in turn, several times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", choices=MODES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(given.repeats):
        for mode in MODES:
            runs[mode].append(measured_apart(mode))
    rows = {
        mode: {
            "largest_peak_rss_bytes": max(run["peak_rss_bytes"] for run in found),
            "median_step_seconds": round(statistics.median(run["step_seconds"] for run in found), 2),
        }
        for mode, found in runs.items()
    }
    text = json.dumps({"machine": machine(), "rows": rows}, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()

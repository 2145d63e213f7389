"""Which transfer recipe is worth its gradient tokens: perplexity after each, same layers, same budget.

SmolLM2-135M, the eight layers that stage 1 chooses on Python documentation, 16k calibration tokens of it, 20
gradient steps of 1,024 tokens. Judged on held-out Python documentation and on texts given as arguments
(files that no recipe learned from). Prints JSON; with `--out FILE` it is written there too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from machine import machine

from trsp_core.absorb import absorb
from trsp_core.budget import plan_passes
from trsp_core.calibration.windows import calibration_windows, evaluation_windows
from trsp_core.checkpoint import load_model, load_tokenizer
from trsp_core.decoder import Decoder, switched_off
from trsp_core.evaluation.memory import peak_rss_bytes
from trsp_core.evaluation.perplexity import loss_of_windows
from trsp_core.method_options import TrspOptions
from trsp_core.sets import parse_sets
from trsp_core.sources import SourcePolicy, materialize, resolve
from trsp_core.stage2 import transfer
from trsp_core.teacher import teacher_states

LAYERS = (4, 5, 13, 14, 17, 21, 25, 26)
LENGTH, SEQUENCES, WINDOWS, WINDOW = 256, 64, 8, 512
STEPS = 20
RECIPES: dict[str, dict[str, Any]] = {
    "removed only": {"schedule": "removed", "stage2_steps": 0, "absorb": False},
    "refit only": {"schedule": "removed", "stage2_steps": 0},
    "refit, then tuned, lora": {"schedule": "removed"},
    "refit, then tuned, full": {"schedule": "removed", "trainable": "full"},
    "penalty, then refit, lora": {"schedule": "penalty"},
    "penalty 1e-3, then refit, lora": {"schedule": "penalty", "lambda2": 1e-3},
    "anneal, lora": {"schedule": "anneal"},
    "removed, then tuned, lora, no refit": {"schedule": "removed", "absorb": False},
}


def run(options: TrspOptions, folder: Path, windows: torch.Tensor, texts: Any, work: Path) -> dict[str, Any]:
    """Apply one recipe to a fresh model; return its perplexities and what it took."""
    model = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
    decoder = Decoder(model)
    passes = plan_passes(
        model, layers=len(decoder), hidden_size=model.config.hidden_size, sequence_length=LENGTH
    )
    began = time.monotonic()
    teacher = None
    if options.stage2_steps:
        teacher = teacher_states(decoder, windows, path=work / "teacher.bin", passes=passes)
    if options.absorb and options.schedule == "removed":
        absorb(decoder, windows, LAYERS, ridge=options.ridge, passes=passes)
    if options.stage2_steps:
        transfer(decoder, windows, LAYERS, options, passes=passes, teacher=teacher, seed=0)
    if options.absorb and options.schedule == "penalty":
        absorb(decoder, windows, LAYERS, ridge=options.ridge, passes=passes)
    seconds = time.monotonic() - began
    with switched_off(decoder, LAYERS):
        found = {text.name: loss_of_windows(model, text.input_ids).perplexity for text in texts}
    return {"perplexity": found, "seconds": round(seconds, 1)}


def main() -> None:
    """Run all recipes, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="*", help="Files that judge beside python-docs.")
    parser.add_argument("--only", nargs="*", help="Recipes to run.")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    policy = SourcePolicy()
    folder = materialize(resolve("demo:smollm2-135m", policy), policy)
    tokenizer = load_tokenizer(folder)
    names = ["python-docs", *(f"text:{text}" for text in given.texts)]
    texts = [
        evaluation_windows(reference, tokenizer, length=WINDOW, limit=WINDOWS, policy=policy)
        for name in names
        for reference in parse_sets(name, "/texts", joined=False)
    ]
    calibration = calibration_windows(
        parse_sets("python-docs", "/set"),
        tokenizer,
        sequences=SEQUENCES,
        length=LENGTH,
        seed=0,
        policy=policy,
    )
    dense = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
    rows = {"dense": {"perplexity": {t.name: loss_of_windows(dense, t.input_ids).perplexity for t in texts}}}
    del dense
    with tempfile.TemporaryDirectory() as work:
        for name, changes in RECIPES.items():
            if given.only and name not in given.only:
                continue
            options = TrspOptions(**{"stage2_steps": STEPS, **changes})
            rows[name] = run(options, folder, calibration.input_ids, texts, Path(work))
            print(name, rows[name], file=sys.stderr, flush=True)
    sizes = {"sequences": SEQUENCES, "length": LENGTH, "steps": STEPS, "layers": list(LAYERS)}
    result = {"machine": machine(), "sizes": sizes, "rows": rows, "peak_rss_bytes": peak_rss_bytes()}
    result["default_options"] = asdict(TrspOptions())
    text = json.dumps(result, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()

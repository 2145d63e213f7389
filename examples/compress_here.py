"""Make a model a quarter shallower, here: `python examples/compress_here.py MODEL TEXT_FILE OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

from trsp_core.config import CompressionSpec
from trsp_core.errors import InputRefused
from trsp_core.pipeline import compress
from trsp_core.progress import Progress


def main(model: str, text: str, out: str) -> None:
    """Compress `model` and print what it cost; `report.html` in `out` has the rest."""
    spec = CompressionSpec.from_dict(
        {
            "model": model,
            "sparsity": 0.25,
            "calibration": {"set": f"text:{text}", "sequences": 32, "sequence_length": 128},
            "evaluation": {"perplexity": [f"text:{text}"], "windows": 16, "window_length": 128},
        }
    )
    report = compress(spec, workdir=Path(out), on_progress=show)
    judged = report.perplexity[f"text:{text}"]
    print(f"layers {list(report.plan.removed)} left; perplexity {judged.dense:.1f} -> {judged.pruned:.1f}")
    print(f"the result is a plain model: AutoModelForCausalLM.from_pretrained({str(Path(out, 'model'))!r})")


def show(event: Progress) -> None:
    """Print one line a step."""
    print(f"{event.overall:4.0%} {event.stage} {event.step}/{event.total} {event.message}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except InputRefused as error:
        sys.exit(str(error))

"""Peak memory of a job on SmolLM2-135M, as multiples of the model's fp32 size, each in a process of its own.

Three jobs: the choice of layers only, choice and refit, choice and LoRA stage 2 and refit. The figure is the
one that the job itself measures and reports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import machine

from trsp_core.sources import SourcePolicy, inspect, resolve

LIMITS = {"plan only": 2.5, "refit only": 2.5, "lora": 4.0}
SHARED = [
    "demo:smollm2-135m",
    *("--layers-to-remove", "2", "--calibration", "python-docs", "--sequences", "8"),
    *("--sequence-length", "512", "--set", "stage1_steps=1", "--set", "verify_top=2"),
    *("--set", "stage1_sequences=2"),
]
EVALUATION = ["--windows", "2", "--window-length", "512"]


def trsp(command: str, out: Path, *more: str) -> dict[str, Any]:
    """Run a command; return the JSON that it prints."""
    line = [sys.executable, "-m", "trsp_cli.main", "--json", command, *SHARED, "--out", str(out), *more]
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Run the three jobs and print their peaks; exit code 1 if one is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    size = 4 * inspect(resolve("demo:smollm2-135m", SourcePolicy())).parameters
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = {
            "plan only": trsp("plan", folder / "plan.json"),
            "refit only": trsp("prune", folder / "refit", "--set", "stage2_steps=0", *EVALUATION),
            "lora": trsp("prune", folder / "lora", "--set", "stage2_steps=2", *EVALUATION),
        }
    peaks = {job: result["resources"]["peak_rss_bytes"] for job, result in jobs.items()}
    rows = {
        job: {"peak_rss_bytes": peak, "multiple": round(peak / size, 2), "limit": LIMITS[job]}
        for job, peak in peaks.items()
    }
    text = json.dumps({"machine": machine(), "model_fp32_bytes": size, "rows": rows}, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    sys.exit(any(row["multiple"] > row["limit"] for row in rows.values()))


if __name__ == "__main__":
    main()

"""Peak memory of a streamed job on SmolLM2-135M: choice, refit, cut and perplexity, one layer in memory at a time.

The limit is 0.6 times the fp32 model plus the residual streams of the calibration text, held for what the job
takes beside the imports: Python, torch and transformers alone are larger than 0.6 times this small model, which the
figures say, too. The round trip runs in a process of its own; the largest of all processes is printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import machine

from trsp_core.sources import SourcePolicy, inspect, resolve

MODEL = "demo:smollm2-135m"
SHARE = 0.6
STREAMS = 2
FLOAT_BYTES = 4
IMPORTS = (
    "import trsp_cli.main, trsp_core.pipeline, transformers.models.llama.modeling_llama\n"
    "from trsp_core.evaluation.memory import peak_rss_bytes\n"
    "print(peak_rss_bytes())"
)


def peak_of_imports() -> int:
    """Return the peak of a process that imports what the job imports and does nothing."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, stdout=subprocess.PIPE)
    return int(done.stdout)


def job(out: Path, memory: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run the job; return its report."""
    line = [
        *(sys.executable, "-m", "trsp_cli.main", "--json", "prune", MODEL, "--out", str(out), "--no-speed"),
        *("--method", "shortgpt+absorb", "--layers-to-remove", "8", "--calibration", "python-docs"),
        *("--sequences", str(given.sequences), "--sequence-length", str(given.length)),
        *("--windows", str(given.windows), "--window-length", str(given.length)),
        *("--set", f"memory={memory}", "--set", "own_text=0"),
    ]
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def row(report: dict[str, Any], imports: int, model: int, hidden: int) -> dict[str, Any]:
    """Return what a report says about memory, beside its limit."""
    peak = report["resources"]["peak_rss_bytes"]
    limit = int(SHARE * model) + hidden
    return {
        "peak_rss_bytes": peak,
        "beside_the_imports_bytes": peak - imports,
        "limit_bytes": limit,
        "within_the_limit": peak - imports <= limit,
        "within_the_limit_with_the_imports": peak <= limit,
        "seconds": round(sum(report["timings"].values()), 1),
        "removed_layers": report["plan"]["removed_layers"],
        "perplexity": report["perplexity"],
    }


def main() -> None:
    """Run a streamed and a resident job; exit code 1 if the first takes too much or finds something else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    facts = inspect(resolve(MODEL, SourcePolicy()))
    model = FLOAT_BYTES * facts.parameters
    hidden = STREAMS * given.sequences * given.length * facts.hidden_size * FLOAT_BYTES
    imports = peak_of_imports()
    with tempfile.TemporaryDirectory() as name:
        reports = {memory: job(Path(name) / memory, memory, given) for memory in ("streamed", "resident")}
    rows = {memory: row(report, imports, model, hidden) for memory, report in reports.items()}
    same = [reports["streamed"][key] == reports["resident"][key] for key in ("plan", "perplexity")]
    found = {
        "machine": machine(),
        "model_fp32_bytes": model,
        "hidden_states_bytes": hidden,
        "imports_bytes": imports,
        "largest_process_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "same_result": all(same),
        "rows": rows,
    }
    text = json.dumps(found, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    sys.exit(not (all(same) and rows["streamed"]["within_the_limit"]))


if __name__ == "__main__":
    main()

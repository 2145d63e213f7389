"""Quality at equal budgets: TRSP against its baselines and against itself without each of its parts.

SmolLM2-135M, eight of thirty layers. Learned from the first 70 % of `wikitext2/valid.txt`, judged on its last
30 %, on the held-out topics of `python-docs` and on `shakespeare/input.txt`. Every row of a seed has the same
calibration windows, every row with gradient steps the same number of gradient tokens, and every choice the same
windows. The defaults of TRSP were found on other texts: windows of the first 60 % of that file, judged on its
next 10 %, on Debian's policy manual and on a collection of fortunes.

One process a seed, `--jobs` of them at a time with one thread each. `--merge` only prints what is in `--out`.
Exit code 1 if a limit of the project is missed; the table and the ratios are printed either way.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch
from machine import machine

from trsp_core import registry
from trsp_core.budget import plan_passes
from trsp_core.calibration.windows import calibration_windows, evaluation_windows
from trsp_core.checkpoint import load_model, load_tokenizer
from trsp_core.config import CompressionSpec
from trsp_core.decoder import Decoder, switched_off
from trsp_core.evaluation.perplexity import loss_of_windows
from trsp_core.method_options import RefitOptions, TrspOptions, TuneOptions, own_sequences
from trsp_core.methods.base import Method, Work
from trsp_core.methods.knowledge_transfer import KnowledgeTransfer
from trsp_core.mixed_precision import reduced_products
from trsp_core.own_text import written_by
from trsp_core.progress import never
from trsp_core.reporting import Reporter
from trsp_core.results import PruningPlan
from trsp_core.sets import parse_sets
from trsp_core.sources import SourcePolicy, materialize, resolve
from trsp_core.workspace import Workspace

REMOVED, LENGTH, SEQUENCES, STEPS = 8, 256, 112, 80
CHOICE_SEQUENCES = 8
"""Sequences that every choice which measures losses reads: 2,048 tokens, stage 1's default."""
WINDOWS, WINDOW = 6, 512
CPU = torch.device("cpu")
TRAINED, HOME = 0.7, "wikitext2, last 30 %"
TUNE = TuneOptions(stage2_steps=STEPS).stage2()
REFIT = RefitOptions().stage2()
FULL = TrspOptions(stage2_steps=STEPS)


@dataclass(frozen=True)
class Row:
    """One line of the table: who chooses (None: nothing leaves) and what follows (None: nothing)."""

    label: str
    chooser: str | None
    after: TrspOptions | None = None


ROWS = (
    Row("dense", None),
    Row("dense tuned with the same budget", None, TUNE),
    Row("shortgpt", "shortgpt"),
    Row("sleb", "sleb"),
    Row("trsp, layers removed only", "trsp"),
    Row("trsp, no gradients", "trsp", REFIT),
    Row("shortgpt+tune", "shortgpt", TUNE),
    Row("sleb+tune", "sleb", TUNE),
    Row("trsp", "trsp", FULL),
)
ABLATIONS = (
    Row("shortgpt+absorb", "shortgpt", REFIT),
    Row("sleb+absorb", "sleb", REFIT),
    Row("trsp without stage 1 (shortgpt's set)", "shortgpt", FULL),
    Row("trsp one-shot, no gradients", "trsp one-shot", REFIT),
    Row("trsp by gates, removed only", "trsp gates"),
    Row("trsp by output gates, removed only", "trsp output gates"),
    Row("trsp without absorb", "trsp", replace(FULL, absorb=False)),
    Row("trsp without own text", "trsp", replace(FULL, own_text=0.0)),
    Row("trsp, all steps after the removal", "trsp", replace(FULL, schedule="removed")),
    Row("trsp, layers fade together", "trsp", replace(FULL, schedule="anneal")),
    Row(
        "trsp, layers fade one after the other",
        "trsp",
        replace(FULL, schedule="anneal", anneal_order="one_by_one"),
    ),
    Row("trsp, the paper's penalty, then absorb", "trsp", replace(FULL, schedule="penalty", own_text=0.0)),
)
CHOOSERS: dict[str, dict[str, Any]] = {
    "shortgpt": {"name": "shortgpt"},
    "sleb": {"name": "sleb"},
    "trsp": {"name": "trsp"},
    "trsp gates": {"name": "trsp", "candidates": "gates", "verify_top": 4},
    "trsp output gates": {"name": "trsp", "candidates": "gates", "gate": "output", "verify_top": 1},
}


class Bench:
    """The fixed surroundings of one seed."""

    def __init__(self, seed: int, data: Path, place: Path) -> None:
        self.seed, self.place = seed, place
        policy = SourcePolicy()
        self.folder = materialize(resolve("demo:smollm2-135m", policy), policy)
        tokenizer = load_tokenizer(self.folder)
        text = (data / "wikitext2/valid.txt").read_text()
        at = text.rfind("\n", 0, int(TRAINED * len(text)))
        (place / "train.txt").write_text(text[:at])
        (place / "judge.txt").write_text(text[at:])
        (train,) = parse_sets(f"text:{place / 'train.txt'}", "/set")
        self.windows = calibration_windows(
            [train], tokenizer, sequences=SEQUENCES, length=LENGTH, seed=seed, policy=policy
        ).input_ids
        judges = {
            HOME: f"text:{place / 'judge.txt'}",
            "python-docs": "python-docs",
            "shakespeare": f"text:{data / 'shakespeare/input.txt'}",
        }
        self.judges = {
            name: evaluation_windows(
                parse_sets(reference, "/set")[0], tokenizer, length=WINDOW, limit=WINDOWS, policy=policy
            ).input_ids
            for name, reference in judges.items()
        }
        self.plans: dict[str, tuple[PruningPlan, dict[str, float]]] = {}
        self.own_text: torch.Tensor | None = None

    def work(self, name: str, method: dict[str, Any]) -> tuple[Work, Method]:
        """Return the work on a freshly loaded model."""
        spec = CompressionSpec.from_dict(
            {
                "model": "m",
                "target": {"layers_to_remove": REMOVED},
                "calibration": "python-docs",
                "method": method,
            }
        )
        space = Workspace.open(self.place / name.replace(" ", "-").replace("/", "-"), spec)
        reporter = Reporter(lambda _: None, space)
        reporter.begin("stage2", 1, name)
        model = load_model(self.folder, dtype=torch.float32, device=CPU)
        decoder = Decoder(model)
        passes = plan_passes(
            model, layers=len(decoder), hidden_size=model.config.hidden_size, sequence_length=LENGTH
        )
        work = Work(decoder, self.windows, REMOVED, passes, self.seed, space, reporter, never)
        return work, registry.create(spec.method.name, spec.method.options)

    def plan(self, chooser: str | None) -> tuple[PruningPlan, dict[str, float]]:
        """Return what is chosen and what it took, chosen once a seed."""
        if chooser is None:
            return PruningPlan("none", 30, ()), {}
        if chooser == "trsp one-shot":
            return _one_shot(self.plan("trsp")[0]), {}
        if chooser not in self.plans:
            work, method = self.work(f"choose {chooser}", CHOOSERS[chooser])
            measured = registry.METHODS[CHOOSERS[chooser]["name"]].measured
            windows = self.windows[:CHOICE_SEQUENCES] if measured else self.windows
            work = replace(work, windows=windows)
            began = time.monotonic()
            with reduced_products(CPU, weights=torch.float32):
                plan = method.plan(work)
            spent = {"choosing_seconds": time.monotonic() - began, "choosing_tokens": work.tokens.forward}
            self.plans[chooser] = plan, spent
        return self.plans[chooser]

    def row(self, row: Row) -> dict[str, Any]:
        """Make one line."""
        plan, spent = self.plan(row.chooser)
        work, _ = self.work(row.label, {"name": "last"})
        self._share_own_text(work, row)
        began = time.monotonic()
        if row.after is not None:
            with reduced_products(CPU, weights=torch.float32):
                KnowledgeTransfer(work, plan, row.after).run()
        seconds = time.monotonic() - began
        with switched_off(work.decoder, plan.removed):
            found = {
                name: loss_of_windows(work.decoder.model, ids).perplexity for name, ids in self.judges.items()
            }
        return {
            "label": row.label,
            "seed": self.seed,
            "removed": list(plan.removed),
            "perplexity": found,
            "gradient_tokens": work.tokens.gradient,
            "transfer_seconds": seconds,
            "transfer_forward_tokens": work.tokens.forward,
            **spent,
        }

    def _share_own_text(self, work: Work, row: Row) -> None:
        """Give the row the text that the dense model wrote for an earlier one, which would be the same."""
        if row.after is None or row.after.own_text == 0 or not (row.after.absorb or row.after.stage2_steps):
            return
        if self.own_text is None:
            began = time.monotonic()
            count = own_sequences(SEQUENCES, LENGTH, row.after.own_text)
            with reduced_products(CPU, weights=torch.float32):
                self.own_text = written_by(work.decoder, sequences=count, length=LENGTH, seed=self.seed)
            print(f"own text: {count} sequences, {time.monotonic() - began:.0f} s", file=sys.stderr)
        work.workspace.save_tensors("own_text", {"ids": self.own_text}, {})


def _one_shot(plan: PruningPlan) -> PruningPlan:
    """Return the layers with the smallest scores of the first round."""
    scores = plan.rounds[0].scores
    order = tuple(sorted(scores, key=lambda layer: (scores[layer], layer))[: len(plan.order)])
    return PruningPlan("trsp one-shot", plan.layers, order)


def measure(seed: int, data: Path, out: Path, ablations: bool) -> None:
    """Make all lines of a seed; each is appended to its file as soon as it is there."""
    path = out / f"seed{seed}.jsonl"
    done = {json.loads(line)["label"] for line in path.read_text().splitlines()} if path.exists() else set()
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(seed, data, Path(place))
        for row in (*ROWS, *(ABLATIONS if ablations else ())):
            if row.label in done:
                continue
            line = bench.row(row)
            print(json.dumps(line), file=sys.stderr, flush=True)
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def run_all(given: argparse.Namespace) -> None:
    """Measure the seeds, `--jobs` at a time."""
    waiting, running = list(given.seeds), []
    given.out.mkdir(parents=True, exist_ok=True)
    while waiting or running:
        while waiting and len(running) < given.jobs:
            seed = waiting.pop(0)
            command = [sys.executable, __file__, "--measure", str(seed), "--data", str(given.data)]
            command += ["--out", str(given.out)] + (["--ablations"] if seed in given.ablation_seeds else [])
            running.append(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}))
        if running.pop(0).wait() != 0:
            raise SystemExit("a seed failed")


def rows_of(out: Path) -> Iterator[dict[str, Any]]:
    """Yield every line that was made."""
    for path in sorted(out.glob("seed*.jsonl")):
        yield from (json.loads(line) for line in path.read_text().splitlines())


def mean_of(rows: Sequence[dict[str, Any]], label: str) -> dict[str, float]:
    """Return the geometric mean over the seeds of a row's perplexities."""
    own = [row["perplexity"] for row in rows if row["label"] == label]
    return {name: geometric_mean([item[name] for item in own]) for name in own[0]} if own else {}


def _ratio(rows: Sequence[dict[str, Any]], one: str, other: str) -> dict[str, float]:
    """Return the perplexities of one row as multiples of another's, over the seeds that have both."""
    both = [
        row
        for row in rows
        if all(any(r["seed"] == row["seed"] and r["label"] == x for r in rows) for x in (one, other))
    ]
    left, right = mean_of(both, one), mean_of(both, other)
    return {name: left[name] / right[name] for name in left}


def _seconds(rows: Sequence[dict[str, Any]], label: str) -> float:
    return sum(row["choosing_seconds"] for row in rows if row["label"] == label)


def verdicts(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each limit with what was found."""
    time_ratio = _seconds(rows, "trsp, layers removed only") / _seconds(rows, "sleb")
    found: dict[str, tuple[dict[str, float], float, list[str]]] = {
        "no gradients, against shortgpt": (_ratio(rows, "trsp, no gradients", "shortgpt"), 0.5, [HOME]),
        "no gradients, against sleb": (_ratio(rows, "trsp, no gradients", "sleb"), 0.6, [HOME]),
        "same gradient tokens, against shortgpt+tune": (_ratio(rows, "trsp", "shortgpt+tune"), 0.9, []),
        "same gradient tokens, against sleb+tune": (_ratio(rows, "trsp", "sleb+tune"), 0.9, []),
        "set, against sleb's": (_ratio(rows, "trsp, layers removed only", "sleb"), 1.0, [HOME]),
        "time of stage 1, against sleb's": ({"seconds": time_ratio}, 0.25, []),
    }
    return {
        name: {"found": ratios, "at_most": limit, "ok": all(ratios[key] <= limit for key in keys or ratios)}
        for name, (ratios, limit, keys) in found.items()
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the mean perplexities as Markdown."""
    names = list(rows[0]["perplexity"])
    lines = [
        "| method | seeds | " + " | ".join(names) + " | gradient tokens |",
        "|-" * (len(names) + 3) + "|",
    ]
    for label in dict.fromkeys(row["label"] for row in rows):
        own = [row for row in rows if row["label"] == label]
        means = mean_of(rows, label)
        figures = " | ".join(f"{means[name]:.2f}" for name in names)
        lines.append(f"| {label} | {len(own)} | {figures} | {own[0]['gradient_tokens']:,} |")
    return "\n".join(lines)


def main() -> int:
    """Measure what is asked for, print the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Folder with wikitext2/ and shakespeare/.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/quality")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--ablation-seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--merge", action="store_true", help="Measure nothing.")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ablations", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        measure(given.measure, given.data, given.out, given.ablations)
        return 0
    if not given.merge:
        run_all(given)
    rows = list(rows_of(given.out))
    judged = verdicts(rows)
    sizes = {"layers_removed": REMOVED, "sequences": SEQUENCES, "length": LENGTH, "steps": STEPS}
    sizes |= {"choice_sequences": CHOICE_SEQUENCES, "windows": WINDOWS, "window_length": WINDOW}
    summary = {"machine": machine(), "sizes": sizes, "defaults": asdict(FULL), "limits": judged}
    if not given.merge:
        (given.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(table(rows))
    for name, item in judged.items():
        ratios = ", ".join(f"{key} {value:.3f}" for key, value in item["found"].items())
        print(f"{'ok    ' if item['ok'] else 'MISSED'} {name}: {ratios} (at most {item['at_most']})")
    return 0 if all(item["ok"] for item in judged.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

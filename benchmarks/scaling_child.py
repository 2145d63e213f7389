"""One measurement of `scaling.py`: a task on a random model, its seconds and its peak beside the imports, as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers.models.llama.modeling_llama  # noqa: F401  a part of the imports, not of the job

from trsp_core import registry
from trsp_core.allocator import returning_freed_memory
from trsp_core.budget import batches, plan_passes
from trsp_core.config import CompressionSpec
from trsp_core.decoder import Decoder
from trsp_core.device import Placement
from trsp_core.evaluation.losses import mean_loss
from trsp_core.evaluation.memory import peak_rss_bytes
from trsp_core.methods.base import Method, Work
from trsp_core.progress import ignore, never
from trsp_core.reporting import Reporter
from trsp_core.results import PruningPlan
from trsp_core.streaming import open_decoder
from trsp_core.workspace import Workspace

METHODS: Mapping[str, dict[str, Any]] = {
    "forward": {"name": "shortgpt"},
    "stage1": {"name": "trsp", "stage1_steps": 2, "verify_top": 2, "stage1_sequences": 1_000_000},
    "absorb": {"name": "shortgpt+absorb"},
    "stage2": {"name": "trsp", "stage2_steps": 1, "objective": "lm", "absorb": False, "schedule": "removed"},
    "streamed": {"name": "shortgpt+absorb"},
}


def work_of(decoder: Decoder, request: Mapping[str, Any], folder: Path) -> tuple[Work, Method]:
    """Return a method's work on random tokens."""
    sequences = request["tokens"] // request["length"]
    method = dict(METHODS[request["task"]])
    if request["task"] == "stage2":
        method["batch_sequences"] = sequences
    spec = CompressionSpec.from_dict(
        {"model": "m", "target": {"layers_to_remove": 1}, "calibration": "python-docs", "method": method}
    )
    config = decoder.model.config
    generator = torch.Generator().manual_seed(0)
    windows = torch.randint(config.vocab_size, (sequences, request["length"]), generator=generator)
    space = Workspace.open(folder, spec)
    reporter = Reporter(ignore, space)
    reporter.begin("stage1", 1, "measured")
    passes = plan_passes(
        decoder.model,
        layers=len(decoder),
        hidden_size=config.hidden_size,
        sequence_length=request["length"],
    )
    work = Work(decoder, windows, 1, passes, 0, space, reporter, never)
    return work, registry.create(spec.method.name, spec.method.options)


def task_of(name: str, work: Work, method: Method) -> Callable[[], object]:
    """Return what is timed."""
    layers = len(work.decoder)
    plan = PruningPlan("by hand", layers, (layers - 2,))

    @torch.inference_mode()
    def forward() -> None:
        for part in batches(work.windows, work.passes.forward_rows):
            mean_loss(work.decoder.model, part)

    if name == "forward":
        return forward
    if name == "stage1":
        return lambda: method.plan(work)
    return lambda: method.transfer(work, plan)


def main(request: Mapping[str, Any]) -> None:
    """Run the task once and print what it took."""
    before = peak_rss_bytes()
    placement = Placement(
        torch.device("cpu"), getattr(torch, request["dtype"]), streamed=request["task"] == "streamed"
    )
    decoder = open_decoder(Path(request["folder"]), placement)
    with tempfile.TemporaryDirectory() as name, returning_freed_memory():
        work, method = work_of(decoder, request, Path(name) / "work")
        task = task_of(request["task"], work, method)
        begin = time.perf_counter()
        task()
        seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_rss_bytes() - before}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

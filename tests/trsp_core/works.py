"""A tiny model, a text and a method, ready to work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.trsp_core.learned import learned_lm, sequences
from trsp_core import registry
from trsp_core.budget import Passes
from trsp_core.config import CompressionSpec
from trsp_core.decoder import Decoder
from trsp_core.methods.base import Method, Work
from trsp_core.options import rules
from trsp_core.progress import StopFn, never
from trsp_core.reporting import Reporter
from trsp_core.workspace import Workspace

QUICK = {"stage1_steps": 2, "stage2_steps": 3, "protect_first": 1, "protect_last": 1}


def work_of(
    folder: Path,
    name: str,
    *,
    count: int = 2,
    seed: int = 0,
    model: Any = None,
    should_stop: StopFn = never,
    **options: Any,
) -> tuple[Work, Method]:
    """Return the work of a method on a model of six layers that counts, and the method."""
    known = rules(registry.METHODS[name].options)
    given = {key: value for key, value in QUICK.items() if key in known} | options
    spec = CompressionSpec.from_dict(
        {
            "model": "m",
            "target": {"layers_to_remove": count},
            "calibration": "python-docs",
            "method": {"name": name, **given},
        }
    )
    space = Workspace.open(folder, spec)
    reporter = Reporter(lambda _: None, space)
    reporter.begin("stage1", 1, "test")
    work = Work(
        decoder=Decoder(model or learned_lm()),
        windows=sequences(8, 16, seed=3),
        count=count,
        passes=Passes(4, 4, False),
        seed=seed,
        workspace=space,
        reporter=reporter,
        should_stop=should_stop,
    )
    return work, registry.create(name, spec.method.options)

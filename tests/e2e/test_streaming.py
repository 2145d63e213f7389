"""A streamed job on the real model: its memory, and that it finds what the resident one finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.timeout(3600)
def test_a_streamed_job_stays_within_its_memory_and_finds_the_same() -> None:
    line = [sys.executable, str(BENCHMARKS / "streaming.py"), "--sequences", "8", "--windows", "2"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


@pytest.mark.timeout(1800)
def test_scaling_measures_every_task_and_estimates_from_it() -> None:
    line = [
        *(sys.executable, str(BENCHMARKS / "scaling.py"), "--tokens", "256", "--layers", "4"),
        *("--hidden", "128", "--base-hidden", "128", "--base-layers", "4", "--base-tokens", "256"),
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["forward_passes"]["forward"] == 1
    assert found["forward_passes"]["stage1"] > 1
    seven = found["estimate"]["7B"]
    assert seven["streamed"]["gpu_gb"] < seven["absorb"]["gpu_gb"]

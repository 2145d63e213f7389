"""`trsp demo` on the real model: the whole service, one real job, the table and the last line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

JOB_SECONDS = 8 * 60
WORST_RATIO = 2.2
LORA_MULTIPLE = 4.0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trsp-demo-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(900)
def test_the_demo_prunes_a_real_model(data_dir: Path) -> None:
    command = [sys.executable, "-m", "trsp_cli.main", "demo", "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("report: ")
    path = Path(last.removeprefix("report: "))
    report = json.loads(path.read_text())
    assert len(report["plan"]["removed_layers"]) == 8
    found = report["perplexity"]["python-docs"]
    assert not found["calibration_text"]
    assert 10 < found["dense"] < 30
    assert found["pruned"] / found["dense"] <= WORST_RATIO
    assert report["round_trip"]["ok"]
    assert report["round_trip"]["max_abs_logit_difference"] <= 1e-5
    assert report["round_trip"]["generated_tokens_equal"]
    assert sum(report["timings"].values()) <= JOB_SECONDS
    assert report["refitted_layers"]
    assert report["resources"]["peak_rss_bytes"] <= LORA_MULTIPLE * 4 * report["model"]["parameters"]
    for word in ("python-docs", "parameters", "speed"):
        assert word in done.stdout

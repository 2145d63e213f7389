"""GGUF on the real model: the limits of surgery, measured by the benchmark that states them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gguf_surgery.py"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_the_real_model_is_exported_and_proved(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    command = [sys.executable, "-m", "trsp_cli.main", "--json", "export", "demo:smollm2-135m"]
    done = subprocess.run(
        [*command, "--out", str(out), "--type", kind], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "logits differ by 0 from the rounded weights'" in json.loads(done.stdout)["note"]


@pytest.mark.slow
def test_surgery_of_the_real_file_is_fast_small_and_right(tmp_path: Path) -> None:
    out = tmp_path / "gguf.json"
    command = [sys.executable, str(BENCHMARK), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert 10 < found["perplexity"]["gguf"] < 60
    assert found["result_bytes"] < found["source_bytes"]

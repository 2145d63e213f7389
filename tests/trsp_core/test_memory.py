"""Memory figures are of this process and of the right size."""

from __future__ import annotations

import json
import subprocess
import sys

import torch
import transformers

import trsp_core
from trsp_core.evaluation.memory import environment, peak_cuda_bytes


def test_peak_stays_when_memory_is_given_back() -> None:
    """Within 2 MiB: the kernel adds up its pages in batches."""
    script = (
        "from trsp_core.evaluation.memory import peak_rss_bytes as peak\n"
        f"before = peak(); block = bytearray(b'x') * {256 * 2**20}\n"
        "during = peak(); del block; print(before, during, peak())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, during, after = map(int, done.stdout.split())
    assert during - before > 250 * 2**20
    assert after > during - 2 * 2**20


def test_peak_of_a_small_child_is_not_its_parent_s() -> None:
    """A process of 1,200 MiB starts one that only reads its own peak."""
    child = "from trsp_core.evaluation.memory import peak_rss_bytes as peak; print(peak())"
    script = (
        f"import subprocess, sys; block = bytearray(b'x') * {1200 * 2**20}\n"
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < 1000 * 2**20


def test_a_cpu_has_no_cuda_peak() -> None:
    assert peak_cuda_bytes("cpu") is None


def test_environment_is_json_and_names_the_versions() -> None:
    found = environment("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["torch"] == torch.__version__
    assert found["transformers"] == transformers.__version__
    assert found["trsp"] == trsp_core.__version__
    assert found["device"] == "cpu"
    assert found["threads"] == torch.get_num_threads()
    assert found["device_name"]

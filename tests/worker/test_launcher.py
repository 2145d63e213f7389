from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "-m", "worker.launcher"]


def launch(*arguments: str, code: str) -> subprocess.CompletedProcess[str]:
    command = [*LAUNCH, "--parent", str(os.getpid()), *arguments, "--", sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_it_becomes_the_program_with_its_limits() -> None:
    kinds = "(r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_CORE)"
    code = f"import resource as r; print(*(r.getrlimit(kind)[0] for kind in {kinds}))"
    done = launch("--memory", "2000000000", "--file-size", "1000", code=code)
    assert done.stdout.split() == ["2000000000", "1000", "0"]


def test_the_programs_exit_code_is_its_own() -> None:
    assert launch(code="raise SystemExit(7)").returncode == 7


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_it_goes_first_when_memory_runs_out() -> None:
    assert launch(code="print(open('/proc/self/oom_score_adj').read())").stdout.strip() == "500"


def test_it_does_not_start_without_its_supervisor() -> None:
    command = [*LAUNCH, "--parent", "1", "--", sys.executable, "-c", "print('ran')"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "supervisor is gone" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_it_dies_with_its_supervisor() -> None:
    code = f"""
import os, subprocess, sys, time
child = subprocess.Popen([*{LAUNCH!r}, "--parent", str(os.getpid()), "--", sys.executable, "-c",
    "import time; print('up', flush=True); time.sleep(60)"], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    child = psutil.Process(int(supervisor.stdout.readline()))
    supervisor.kill()
    supervisor.communicate()
    deadline = time.monotonic() + 5
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)

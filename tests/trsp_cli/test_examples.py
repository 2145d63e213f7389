"""The programs in `examples/` do what they say."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.api.conftest import KEY
from tests.api.work import claim, succeed, work_until
from tests.trsp_cli.conftest import Service
from trsp_cli.client import Client

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_compress_here(here: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "compress_here.py"), "llama", "text.txt", "out"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("layers [")
    assert (here / "out" / "model" / "config.json").exists()
    refused = subprocess.run(
        [*command[:2], "nowhere", *command[3:]], cwd=here, capture_output=True, check=False
    )
    assert refused.returncode == 1
    assert b"nowhere is no folder" in refused.stderr
    assert b"Traceback" not in refused.stderr


def test_submit_job(service: Service, tmp_path: Path) -> None:
    arguments = [service.url, "demo:smollm2-135m", "python-docs", str(tmp_path / "out"), KEY]
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "submit_job.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        worker = threading.Thread(target=work, args=(service, tmp_path / "work"))
        worker.start()
        said, error = running.communicate(timeout=60)
        worker.join()
    assert running.returncode == 0, error
    assert "perplexity on " in said
    assert (tmp_path / "out" / "report.json").exists()
    assert "at stage1" in error


def work(service: Service, folder: Path) -> None:
    """Wait for the job and do what a worker does."""
    with Client(service.url, KEY) as client:
        while not (waiting := client.list(label="example=yes")["items"]):
            time.sleep(0.05)
    held = claim(service.api, waiting[0]["id"])
    work_until(service.api, held, "report")
    succeed(service.api, held, folder)

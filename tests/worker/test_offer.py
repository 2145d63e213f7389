from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from trsp_jobs.settings import Settings
from worker.offer import gpu_memory, machine_memory, make_offer


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(
        database_url="postgresql+psycopg://h/d",
        broker_url="redis://h",
        store_url="file:///x",
        data_dir=folder,
        **changes,
    )


def driver(folder: Path, answer: str) -> None:
    """A driver's tool that answers so, and writes down what it was asked."""
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\n{answer}\n')
    program.chmod(0o755)


def test_what_the_operator_says_counts(tmp_path: Path) -> None:
    offer = make_offer(settings(tmp_path, worker_device="cuda", worker_memory_bytes=24 * 2**30))
    assert (offer.device, offer.memory_bytes) == ("cuda", 24 * 2**30)
    assert offer.device_classes == ("any", "cuda")


def test_a_cpu_worker_offers_the_machines_memory_or_what_its_group_may_take(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    limit = tmp_path / "memory.max"
    assert machine_memory(limit) == total
    for said, found in (("max", total), ("1048576", 1048576), (str(2 * total), total)):
        limit.write_text(said)
        assert machine_memory(limit) == found
    offer = make_offer(settings(tmp_path, worker_device="cpu"))
    assert (offer.memory_bytes, offer.device_classes) == (machine_memory(), ("any",))


def test_a_gpu_worker_offers_the_memory_of_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert gpu_memory() is None
    driver(tmp_path, "echo 24576")
    assert make_offer(settings(tmp_path, worker_device="cuda")).memory_bytes == 24 * 2**30
    assert "--id=3 " in (tmp_path / "asked").read_text()
    for answer in ("echo nothing; exit 9", "echo [N/A]", "true"):
        driver(tmp_path, answer)
        assert gpu_memory() is None

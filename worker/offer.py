"""What this machine offers to jobs: its device and the memory there. Torch is not asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil

from trsp_jobs.leases import WorkerOffer
from trsp_jobs.settings import Settings

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_GPU_SECONDS = 20


def make_offer(settings: Settings) -> WorkerOffer:
    """Return what the operator has set, else what is found: a GPU's memory, or the machine's."""
    device = offered_device(settings)
    found = gpu_memory() if device == "cuda" and settings.worker_memory_bytes is None else None
    return WorkerOffer(device, settings.worker_memory_bytes or found or machine_memory())


def offered_device(settings: Settings) -> str:
    """Return `cuda` or `cpu`: what is set, else whether there is an NVIDIA device."""
    if settings.worker_device != "auto":
        return settings.worker_device
    return "cuda" if Path("/dev/nvidia0").exists() else "cpu"


def machine_memory(limit: Path = CGROUP_LIMIT) -> int:
    """Return the machine's memory, bytes; no more than this control group may take."""
    total = psutil.virtual_memory().total
    try:
        return min(total, int(limit.read_text()))
    except (OSError, ValueError):
        return total


def gpu_memory() -> int | None:
    """Return the memory of the first GPU that is visible here, bytes; None where its driver does not tell."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0] or "0"
    command = ["nvidia-smi", f"--id={first}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True)
        return int(told.stdout.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None

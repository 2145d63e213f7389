"""What the process used and what it ran on."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from trsp_core import __version__


def peak_rss_bytes() -> int:
    """Return the largest resident size of this process so far, bytes.

    Linux's own counter of the address space (`VmHWM`) is preferred: `ru_maxrss` survives `exec`, so that a
    small child of a large process would report its parent's peak.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return _max_rss_of_rusage()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _max_rss_of_rusage() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_cuda_bytes(device: torch.device | str) -> int | None:
    """Return the most memory that torch's allocator held on a CUDA device, bytes; None on any other."""
    device = torch.device(device)
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def environment(device: torch.device | str) -> dict[str, Any]:
    """Return what a reader needs to judge and repeat a measurement: versions, machine, device, switches."""
    device = torch.device(device)
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": metadata.version("transformers"),
        "trsp": __version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if device.type == "cuda" else False,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())

"""Where the work runs and in which precision: decided once, stated in the report."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from trsp_core.config import DEVICE_NAME
from trsp_core.errors import InvalidSpec, Problem
from trsp_core.results import ModelFacts

_ROOM = 6
"""On CUDA `auto` works in fp32 where the device holds this many times the fp32 weights (training included)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and the precision of the weights on it.

    Attributes:
        streamed: Whether one layer's weights are in memory at a time, and not the whole model.
    """

    device: torch.device
    dtype: torch.dtype
    streamed: bool = False


def place(device_name: str, dtype_name: str, facts: ModelFacts) -> Placement:
    """Decide device and precision from the spec's names for them.

    Raises:
        InvalidSpec: If a CUDA device is asked for that is not there.
    """
    device = _device(device_name)
    return Placement(device, _dtype(dtype_name, device, facts))


def free_bytes(device: torch.device) -> int:
    """Return the memory that a device has left for this process, bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _device(name: str) -> torch.device:
    found = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda:0" if found else "cpu")
    if not DEVICE_NAME.fullmatch(name):
        message = f"is {name!r}; it must be auto, cpu, cuda or cuda:N."
        raise InvalidSpec(Problem("/device", message, name))
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= found:
        message = f"is {name!r}, but {found} CUDA devices are visible here; use auto or cpu."
        raise InvalidSpec(Problem("/device", message, name))
    return device


def _dtype(name: str, device: torch.device, facts: ModelFacts) -> torch.dtype:
    if name != "auto":
        return torch_dtype(name)
    if device.type == "cpu":
        return torch.float32
    free, _ = torch.cuda.mem_get_info(device)
    fits = _ROOM * facts.parameters * torch.float32.itemsize <= free
    return torch.float32 if fits else torch_dtype(facts.stored_dtype)


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's dtype of a name such as `bfloat16`; fp32 for stored formats that are no float dtype."""
    dtype = getattr(torch, name, None)
    usable = (torch.float32, torch.float16, torch.bfloat16)
    return dtype if isinstance(dtype, torch.dtype) and dtype in usable else torch.float32

"""Matrix products in bfloat16 where the hardware has them; weights, residual streams and losses stay as they are."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

_CPU_SUPPORT = ("avx512_bf16", "amx_bf16", "bf16")
"""Names of the instructions for bfloat16 products on x86 and Arm."""


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are done by the hardware, so that they cost less than in fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(bool(capabilities.get(name)) for name in _CPU_SUPPORT)


def reduced_products(device: torch.device, *, weights: torch.dtype) -> AbstractContextManager[object]:
    """Return a context in which layers multiply in bfloat16 where that is faster and weights are fp32.

    The weights stay the fp32 masters that an optimizer changes; no copy of them is kept, since it would go on
    in place of the changed ones. What is measured for a report runs outside.
    """
    if weights == torch.float32 and has_fast_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return nullcontext()

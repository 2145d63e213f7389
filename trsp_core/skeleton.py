"""The model that a config describes, built without memory, and weighed against the weights that are there.

The loader makes up every weight that is missing or of another shape, at the size that the config states,
before it says so; one number in a config would cost all the memory of the machine.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from trsp_core.sources.policy import refused
from trsp_core.sources.validate import tensor_table

_SLACK = 2
_SPARE_ELEMENTS = 2**22
_SPARE_BUFFERS = 2**26


def check_size(folder: Path) -> None:
    """Refuse a config that describes a far larger model than the folder's weights are.

    Raises:
        ModelRefused: Naming the largest weight that the config describes.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        model = build(config, trust_remote_code=False)
    stored = sum(math.prod(info.shape) for info in tensor_table(folder).values())
    for tensors, room in (
        (dict(model.named_parameters()), _SLACK * stored + _SPARE_ELEMENTS),
        (dict(model.named_buffers()), stored + _SPARE_BUFFERS),
    ):
        described = sum(tensor.numel() for tensor in tensors.values())
        if described > room:
            name, largest = max(tensors.items(), key=lambda item: item[1].numel())
            message = (
                f"config.json describes {described:,} elements, the weights hold {stored:,}; the largest is"
            )
            raise refused(f"{message} {name} with {list(largest.shape)}.", str(folder))

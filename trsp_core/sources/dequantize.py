"""Run as a process: write a GGUF file's model and tokenizer as a plain float32 folder.

python -m trsp_core.sources.dequantize FILE FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def dequantize(file: Path, folder: Path) -> None:
    """Write the model in `file` to `folder` in float32, with its tokenizer and no mark of quantization."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **place)
    _forget_quantization(model)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, **place).save_pretrained(folder)


def _forget_quantization(model: Any) -> None:
    """Remove what makes transformers refuse to save a model that was quantized once."""
    model.hf_quantizer = None
    for owner, names in (
        (model, ("quantization_method", "is_quantized")),
        (model.config, ("quantization_config", "_pre_quantization_dtype", "_model_name_or_path")),
    ):
        for name in names:
            if name in vars(owner):
                delattr(owner, name)
    model.config.name_or_path = ""


if __name__ == "__main__":
    dequantize(Path(sys.argv[1]), Path(sys.argv[2]))

"""The proof of a GGUF file: a fresh process loads it with the plain loader and compares it with the folder."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from trsp_core.errors import RoundTripFailed
from trsp_core.quiet import quiet_transformers

CHILD = Path(__file__).with_name("gguf_check_child.py")
TOLERANCE = 1e-5
"""Largest logit difference that passes, as a share of the largest logit where that is above 1."""
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "In 1969, 3.5 billion people couldn't see it; they'd waited 42 years!",
    "def f(x):\n    return [i ** 2 for i in range(x)]\n\n\n# end\t\n",
    "Größe, naïve, Ελλάδα, 日本語, العربية, 🙂",
    "  two spaces before, trailing space ",
)
"""Texts whose token ids must be the same: words, numbers, code, other scripts, spaces."""
_TIMEOUT_SECONDS = 3600
_TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class GgufCheck:
    """What the comparison found.

    Attributes:
        max_abs_logit_difference: Largest difference to the logits of the folder's model whose weights were
            rounded as the type rounds them: the file says what it should, to the bit.
        tolerance: Largest such difference that passes.
        rounding: What rounding itself does to the logits: root mean square of the differences to the model
            that is not rounded, over that of its logits, each position's mean taken off.
        own_config: Whether the file was loaded with the folder's config: transformers does not read rope
            scaling from GGUF, which llama.cpp does.
        tokens_equal: Whether both tokenizers gave the same ids for every text.
    """

    max_abs_logit_difference: float
    tolerance: float
    rounding: float
    own_config: bool
    tokens_equal: bool

    @property
    def ok(self) -> bool:
        """Whether the file is the model."""
        return self.max_abs_logit_difference <= self.tolerance and self.tokens_equal


def check_gguf(folder: Path, path: Path, kind: str) -> GgufCheck:
    """Compare a GGUF file with the model folder that it was written from, both loaded in float32.

    Raises:
        RoundTripFailed: If the process crashed or took too long, or logits are not finite.
    """
    with tempfile.TemporaryDirectory(prefix="trsp-gguf-") as place:
        answer = Path(place) / "answer.json"
        request = {
            "folder": str(folder.absolute()),
            "file": str(path.absolute()),
            "kind": kind.upper(),
            "texts": TEXTS,
            "threads": torch.get_num_threads(),
            "answer": str(answer),
        }
        _run(request)
        found = json.loads(answer.read_text())
    largest = found.pop("max_abs_logit")
    if not math.isfinite(largest + found["max_abs_logit_difference"]):
        raise RoundTripFailed(f"the logits of {path.name}, or of its folder, are not finite")
    return GgufCheck(tolerance=TOLERANCE * max(1.0, largest), **found)


def gguf_tokenizer(path: Path) -> Any:
    """Load the tokenizer of a GGUF file with the plain loader."""
    with quiet_transformers():
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)


def _run(request: Mapping[str, Any]) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-P", str(CHILD), json.dumps(request)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        message = f"the process that loaded the GGUF file took longer than {_TIMEOUT_SECONDS} s"
        raise RoundTripFailed(message) from error
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-_TAIL_LINES:]) or "it said nothing"
        message = f"the process that loaded the GGUF file ended with code {done.returncode}:\n{tail}"
        raise RoundTripFailed(message)

"""The certificate: a fresh process loads the saved folder with the plain loader and gets the same model.

The process imports torch, transformers and safetensors and nothing of this project, as a stranger's would.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from trsp_core.decoder import Decoder
from trsp_core.errors import RoundTripFailed
from trsp_core.files import check_room
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.results import Check, RoundTrip

CHILD = Path(__file__).with_name("round_trip_child.py")
NEW_TOKENS = 16
STREAMED_TOKENS = 4
"""Each costs a pass over the whole file."""
FLOAT32_TOLERANCE = 1e-5
_POLL_SECONDS = 0.2
_TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class Probe:
    """What both models are shown.

    Attributes:
        input_ids: Random token ids, int64, `[sequences, tokens]`.
    """

    input_ids: torch.Tensor

    @classmethod
    def draw(
        cls,
        vocabulary: int,
        max_positions: int | None,
        *,
        seed: int,
        sequences: int = 2,
        length: int = 32,
    ) -> Probe:
        """Draw token ids uniformly, short enough for the generated tokens to fit behind them.

        Raises:
            RoundTripFailed: If the model takes too few positions to generate anything.
        """
        most = length if max_positions is None else min(length, max_positions - NEW_TOKENS)
        if most < 1:
            message = f"a model of {max_positions} positions is too short to generate {NEW_TOKENS} tokens"
            raise RoundTripFailed(message)
        generator = torch.Generator().manual_seed(seed)
        return cls(torch.randint(vocabulary, (sequences, most), generator=generator))


@torch.no_grad()
def write_reference(decoder: Decoder, probe: Probe, file: Path) -> None:
    """Save the probe and the logits that the working model gives on it, as a safetensors file.

    Args:
        decoder: The model in evaluation mode, in the precision that it is saved in.
        probe: What it is shown.
        file: `input_ids` `[sequences, tokens]`, `logits` float32 `[sequences, tokens, vocabulary]`.
    """
    ids = probe.input_ids.to(decoder.device)
    logits = decoder.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    save_file({"input_ids": probe.input_ids.contiguous(), "logits": logits.float().cpu().contiguous()}, file)


def tolerance_for(dtype: torch.dtype) -> float:
    """Return the largest logit difference that is no error of saving or loading.

    The same kernels on the same device give the same bits; what is allowed is a different order of
    summation, so it scales with the precision: 1e-5 in float32.
    """
    return FLOAT32_TOLERANCE * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps


def round_trip(
    folder: Path,
    reference_file: Path,
    *,
    source_folder: Path | None = None,
    tolerance: float,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    streamed: bool = False,
    timeout_seconds: float = 3600.0,
    should_stop: StopFn = never,
) -> RoundTrip:
    """Load a saved model in a fresh process and check that it is the one in memory and works as any other.

    The checks: no warning at load; logits, token by token; 16 tokens generated greedily with and without the
    KV cache, and from a left-padded batch and its prompts alone, past any end-of-text; SDPA and eager
    attention; a second save and load; vLLM where it is installed. Two tokens whose logits are closer than the
    precision can tell count as the same choice.

    Args:
        folder: The saved model.
        reference_file: What `write_reference` wrote; the second save lies beside it for a while.
        source_folder: The dense model; a warning that loading it gives, too, is not held against the result.
        tolerance: Largest logit difference that passes.
        dtype: Precision that the folder is loaded in.
        device: Device of the comparison; that of the reference.
        streamed: Whether the weights stay on disk until a module needs them, for a model that memory cannot
            hold. Then fewer tokens are generated, and the checks that need a second whole load do not apply.
        timeout_seconds: When the process is given up.
        should_stop: Asked while it runs.

    Returns:
        What was found; `ok` is false where a check did not hold.

    Raises:
        RoundTripFailed: If the process crashed, gave non-finite logits or took too long, with the end of what
            it said.
        StorageFull: If the disk has too little room for the second save.
        Cancelled: If `should_stop` said so; the process is gone.
    """
    beside = reference_file.parent
    with tempfile.TemporaryDirectory(prefix=".round-trip-", dir=beside) as place:
        check_room(beside, sum(path.stat().st_size for path in folder.glob("*.safetensors")))
        answer = Path(place) / "answer.json"
        request = {
            "folder": str(folder),
            "reference": str(reference_file),
            "source": None if source_folder is None else str(source_folder),
            "tolerance": tolerance,
            "dtype": str(dtype).removeprefix("torch."),
            "device": str(device),
            "new_tokens": STREAMED_TOKENS if streamed else NEW_TOKENS,
            "streamed": streamed,
            "threads": torch.get_num_threads(),
            "answer": str(answer),
        }
        _run(request, Path(place), timeout_seconds, should_stop)
        return _judge(json.loads(answer.read_text()), tolerance)


def _run(request: Mapping[str, Any], place: Path, timeout_seconds: float, should_stop: StopFn) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment.pop("TRANSFORMERS_VERBOSITY", None)
    said = place / "said.txt"
    command = [sys.executable, "-P", str(CHILD), json.dumps(request)]
    with said.open("wb") as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(child, timeout_seconds, should_stop)
    finally:
        child.kill()
        child.wait()
    if child.returncode != 0:
        raise_if_stopped(should_stop)
        reason = f"ended with code {child.returncode}" if child.returncode != -9 else "was killed"
        raise RoundTripFailed(f"the process that loaded the result {reason}:\n{_tail(said)}")


def _wait(child: subprocess.Popen[bytes], timeout_seconds: float, should_stop: StopFn) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            child.wait(_POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            raise_if_stopped(should_stop)
        if time.monotonic() > deadline:
            message = f"the process that loaded the result took longer than {timeout_seconds:g} s"
            raise RoundTripFailed(message)


def _tail(said: Path) -> str:
    lines = said.read_text(errors="replace").strip().splitlines()
    return "\n".join(lines[-_TAIL_LINES:]) or "it said nothing"


def _judge(found: Mapping[str, Any], tolerance: float) -> RoundTrip:
    checks = {item["name"]: Check(**item) for item in found["checks"]}
    difference = checks["logits"].figure
    if difference is None or not math.isfinite(difference):
        raise RoundTripFailed("the reloaded model's logits, or those of the model in memory, are not finite")
    return RoundTrip(
        ok=all(item.ok is not False for item in checks.values()),
        max_abs_logit_difference=difference,
        tolerance=tolerance,
        generated_tokens_equal=bool(checks["cached_generation"].ok),
        loader=found["loader"],
        warnings=tuple(found["warnings"]),
        checks=tuple(checks.values()),
    )


def failures(trip: RoundTrip) -> str:
    """Return the checks that did not hold, each with its figure, as one line."""
    return "; ".join(_failure(item) for item in trip.failed)


def _failure(item: Check) -> str:
    why = f" ({item.detail})" if item.detail else ""
    return f"{item.name}: {item.unit} {item.figure:g}, allowed {item.tolerance:g}{why}"

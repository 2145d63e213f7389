"""From a source to a folder of safetensors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from trsp_core.files import check_room, exclusive, folder_written_whole
from trsp_core.sources.facts import inspect
from trsp_core.sources.policy import Source, SourcePolicy, refused
from trsp_core.sources.s3 import fetch_s3
from trsp_core.sources.validate import CONFIG, check_folder

_FORMAT = "v1"
_FLOAT_BYTES = 4


def materialize(source: Source, policy: SourcePolicy) -> Path:
    """Return a folder of safetensors with the source's weights.

    A folder or a hub snapshot is returned as it is. GGUF is dequantized to float32 once, in a process of
    its own so that the caller's peak memory does not count it, and kept in the cache under its content's
    hash; a model in S3 is downloaded there once, under its revision. Of two processes that want it at once
    one makes it and the other waits.

    Raises:
        ModelRefused: If the file cannot be read as a model.
        StorageFull: If the cache has too little room.
    """
    if source.kind in ("folder", "hub"):
        return source.path
    kept = "s3" if source.kind == "s3" else "dequantized"
    target = policy.cache_dir / kept / _FORMAT / source.revision
    with exclusive(target.with_name(f".{source.revision}.lock")):
        if not (target / CONFIG).is_file():
            (fetch_s3 if source.kind == "s3" else _write_dequantized)(source, target)
    return target


def _write_dequantized(source: Source, target: Path) -> None:
    check_room(target, inspect(source).parameters * _FLOAT_BYTES)
    with folder_written_whole(target, replace=True) as temporary:
        _dequantize(source, temporary)
        check_folder(temporary, SourcePolicy())


def _dequantize(source: Source, folder: Path) -> None:
    command = [sys.executable, "-m", "trsp_core.sources.dequantize", str(source.path), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        message = f"{source.path.name} could not be read as a model (exit code {done.returncode}): {last}"
        raise refused(message, source.reference)

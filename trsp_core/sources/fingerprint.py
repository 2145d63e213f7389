"""What pins the content of local files without reading all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

SAMPLES = 64
SAMPLE_BYTES = 4096
HEAD_BYTES = 1024 * 1024


def fingerprint(whole: list[Path], sampled: list[Path]) -> str:
    """Return a SHA-256 over small files and samples of large ones.

    Of a large file it covers name, size, the first MiB (with the header) and 64 blocks of 4 KiB spread
    evenly to its end. Times and folders do not enter, so a copy has the same fingerprint; training changes
    every weight, so another checkpoint of the same shape has another. It tells versions apart; it is no
    proof against somebody who changes bytes between the samples.

    Args:
        whole: Files of which every byte counts; one that is missing is passed over.
        sampled: Weight files.
    """
    digest = hashlib.sha256()
    for path in sorted(whole):
        if path.is_file():
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    for path in sorted(sampled):
        _add_samples(digest, path)
    return digest.hexdigest()


def _add_samples(digest: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    digest.update(f"{path.name}\0{size}\0".encode())
    with path.open("rb") as file:
        digest.update(file.read(HEAD_BYTES))
        for sample in range(SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * (sample + 1) // SAMPLES)
            digest.update(file.read(SAMPLE_BYTES))

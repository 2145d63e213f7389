"""The manifest: what a result is made of, so that it can be checked byte for byte and made again."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from trsp_core import __version__
from trsp_core.files import sha256_of, write_json_atomically
from trsp_core.results import ModelFacts, PruningPlan
from trsp_core.sources import Source
from trsp_core.sources.hashes import FileHash, hashed, hashed_source

SCHEMA_VERSION = 1
NAME = "manifest.json"
"""In the output folder of a compression."""
REMOVAL_NAME = "trsp_manifest.json"
"""In a model folder that layers were removed from, where a plain name would claim too much."""
COMPRESSION, REMOVAL = "compression", "removal"
_WORKING = ("checkpoint", "log.jsonl", NAME, REMOVAL_NAME)


def build_manifest(
    workdir: Path,
    *,
    source: Source,
    source_files: Mapping[str, FileHash],
    facts: ModelFacts,
    plan: PruningPlan,
    calibration_sha256: str,
    spec: Mapping[str, Any],
    seed: int,
    environment: Mapping[str, Any],
    round_trip: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe the results in `workdir`; `files.write_json_atomically` puts it down as `manifest.json`.

    The checkpoint, the log (which goes on after the manifest) and the manifest itself are no results and are
    left out, as are half-written temporary files.

    Args:
        workdir: Folder of the results.
        source: The model that was compressed.
        source_files: Hash and size of each of its files.
        facts: What is known of it.
        plan: Which layers went.
        calibration_sha256: Hash of the calibration token ids.
        spec: The job spec in full.
        seed: Seed of everything random.
        environment: Versions, device, threads, precision.
        round_trip: The certificate, as in `report.json`.

    Returns:
        JSON types: `source` with `files`, `files` {path below `workdir`: {`sha256`, `bytes`}}, `layer_map`
        {index in the result: index in the source}, spec, seed, environment, certificate.
    """
    return {
        **_common(workdir, COMPRESSION, source, source_files, facts, plan.kept),
        "method": plan.method,
        "calibration_sha256": calibration_sha256,
        "spec": dict(spec),
        "seed": seed,
        "environment": dict(environment),
        "round_trip": dict(round_trip),
    }


def record_removal(folder: Path, source: Source, facts: ModelFacts, kept: Sequence[int]) -> None:
    """Write the manifest of a removal into its model folder.

    Args:
        folder: The result.
        source: The model that the layers were removed from.
        facts: What is known of it.
        kept: Source indices of the layers that stayed, ascending.
    """
    manifest = {
        **_common(folder, REMOVAL, source, hashed_source(source), facts, kept),
        "environment": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "transformers")},
            "trsp": __version__,
        },
    }
    write_json_atomically(folder / REMOVAL_NAME, manifest)


def _common(
    folder: Path,
    kind: str,
    source: Source,
    source_files: Mapping[str, FileHash],
    facts: ModelFacts,
    kept: Sequence[int],
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "source": {
            "reference": source.reference,
            "kind": source.kind,
            "revision": source.revision,
            "files": dict(source_files),
        },
        "model": facts.to_dict(),
        "removed_layers": [layer for layer in range(facts.layers) if layer not in set(kept)],
        "layer_map": {str(new): old for new, old in enumerate(kept)},
        "files": hashed(result_files(folder), folder),
    }


def result_files(workdir: Path) -> list[Path]:
    """Return the files in `workdir` that are results, in order of path."""
    return [
        path
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and _is_result(path.relative_to(workdir).parts)
    ]


def _is_result(parts: tuple[str, ...]) -> bool:
    return parts[0] not in _WORKING and not any(part.startswith(".") for part in parts)


def mismatches(workdir: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Return the paths of files that are missing or are not what the manifest says."""
    wrong = []
    for name, stated in manifest["files"].items():
        path = workdir / name
        if not path.is_file() or sha256_of(path) != stated["sha256"]:
            wrong.append(name)
    return wrong

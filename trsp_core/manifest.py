"""The manifest: what a result is made of, so that it can be checked byte for byte and made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trsp_core.files import sha256_of
from trsp_core.results import ModelFacts, PruningPlan
from trsp_core.sources import Source

SCHEMA_VERSION = 1
NAME = "manifest.json"
_WORKING = ("checkpoint", "log.jsonl", NAME)


def build_manifest(
    workdir: Path,
    *,
    source: Source,
    facts: ModelFacts,
    plan: PruningPlan,
    calibration_sha256: str,
    spec: Mapping[str, Any],
    seed: int,
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe the results in `workdir`; `files.write_json_atomically` puts it down as `manifest.json`.

    The checkpoint, the log (which goes on after the manifest) and the manifest itself are no results and are
    left out, as are half-written temporary files.

    Args:
        workdir: Folder of the results.
        source: The model that was compressed.
        facts: What is known of it.
        plan: Which layers went.
        calibration_sha256: Hash of the calibration token ids.
        spec: The job spec in full.
        seed: Seed of everything random.
        environment: Versions, device, threads.

    Returns:
        JSON types: `files` {path below `workdir`: {`sha256`, `bytes`}}, `layer_map` {index in the result:
        index in the source}, source, spec, seed, environment.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "source": {"reference": source.reference, "kind": source.kind, "revision": source.revision},
        "model": facts.to_dict(),
        "method": plan.method,
        "removed_layers": list(plan.removed),
        "layer_map": {str(new): old for new, old in enumerate(plan.kept)},
        "calibration_sha256": calibration_sha256,
        "spec": dict(spec),
        "seed": seed,
        "environment": dict(environment),
        "files": {
            str(path.relative_to(workdir).as_posix()): {
                "sha256": sha256_of(path),
                "bytes": path.stat().st_size,
            }
            for path in result_files(workdir)
        },
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

"""A result made again from its manifest: the same source, the same steps, and every file compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trsp_core.config import CompressionSpec
from trsp_core.errors import CalibrationRefused, InputRefused, ModelRefused, OutputRefused, Problem
from trsp_core.files import sha256_of
from trsp_core.manifest import COMPRESSION, NAME, REMOVAL, REMOVAL_NAME
from trsp_core.preflight import preflight
from trsp_core.progress import ProgressFn, StopFn, never
from trsp_core.removal import remove_layers
from trsp_core.sources import Source, SourcePolicy, materialize, resolve
from trsp_core.sources.companions import CARD
from trsp_core.sources.hashes import hashed_source

_COMPARED = ("model/", "plan.json")
"""Of a compression; its reports carry times of day and can never be the same."""


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """One file of the result, as SHA-256 in hex.

    Attributes:
        name: Path below the result's folder.
        stated: What the manifest says; None of a file that it does not name.
        rebuilt: What was made now; None where the file was not made.
        beside: What lies beside the manifest; None where the file does not.
        kept: Whether the result lies beside the manifest at all, so that `beside` counts.
    """

    name: str
    stated: str | None
    rebuilt: str | None
    beside: str | None
    kept: bool

    @property
    def equal(self) -> bool:
        """Whether the file was made again as stated."""
        return self.stated == self.rebuilt

    @property
    def untouched(self) -> bool | None:
        """Whether the file beside the manifest is as stated; None where no result lies there."""
        return self.stated == self.beside if self.kept else None

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON types."""
        return {
            "name": self.name,
            "equal": self.equal,
            "untouched": self.untouched,
            "stated": self.stated,
            "rebuilt": self.rebuilt,
            "beside": self.beside,
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found.

    Attributes:
        manifest: The manifest's file.
        kind: What was made again: a compression or a removal.
        out: Folder of the new result.
        files: A verdict on each file of the model and on the plan.
        environment: What differs between then and now: name -> (then, now).
    """

    manifest: Path
    kind: str
    out: Path
    files: tuple[FileVerdict, ...]
    environment: Mapping[str, tuple[Any, Any]]

    @property
    def equal(self) -> bool:
        """Whether every file was made again as stated, and none beside the manifest was changed."""
        return all(item.equal and item.untouched is not False for item in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON types."""
        return {
            "equal": self.equal,
            "kind": self.kind,
            "manifest": str(self.manifest),
            "out": str(self.out),
            "files": [item.to_dict() for item in self.files],
            "environment": {
                name: {"then": then, "now": now} for name, (then, now) in self.environment.items()
            },
        }


def manifest_file(path: Path) -> Path:
    """Return the manifest that `path` means: a file, or the one in a result's folder."""
    inside = [path / name for name in (NAME, REMOVAL_NAME)]
    return next((file for file in inside if file.is_file()), path)


def read_manifest(file: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        InputRefused: If it cannot be read, is none, or is of a version that kept too little to be replayed.
    """
    try:
        manifest = {"kind": COMPRESSION, **json.loads(file.read_text(encoding="utf-8"))}
        layers = manifest["layer_map"]
        kept = [int(layers[str(place)]) for place in range(len(layers))]
        whole = kept and _has_all(manifest)
    except OSError as error:
        raise _refused(file, f"cannot be read: {error.strerror}; give manifest.json of a result") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(file, "is no manifest of a result; give manifest.json of a result") from error
    if not whole:
        raise _refused(file, "is no manifest of a result; give manifest.json of a result")
    if "files" not in manifest["source"]:
        raise _refused(file, "is of a version that kept no hashes of the source; it cannot be replayed")
    return {**manifest, "kept": kept}


def _has_all(manifest: Mapping[str, Any]) -> bool:
    """Whether every part that a replay reads is there and of its type."""
    listed = [*manifest["files"].values(), *manifest["source"].get("files", {}).values()]
    hashes = [item["sha256"] for item in listed]
    if manifest["kind"] == COMPRESSION:
        hashes.append(manifest["calibration_sha256"])
        return isinstance(manifest["spec"], dict) and all(isinstance(item, str) for item in hashes)
    return manifest["kind"] == REMOVAL and all(isinstance(item, str) for item in hashes)


def _refused(file: Path, message: str) -> InputRefused:
    return InputRefused(Problem("MANIFEST", f"{file} {message}.", str(file)))


def replay(
    file: Path,
    out: Path,
    *,
    model: str | None = None,
    on_progress: ProgressFn | None = None,
    should_stop: StopFn = never,
    policy: SourcePolicy | None = None,
) -> Replay:
    """Make a result again and compare it with what its manifest says.

    Local files are looked for as the manifest names them, from the folder that the process runs in.

    Args:
        file: The manifest.
        out: Folder of the new result; new or empty, or the checkpoint of the same replay.
        model: Where the source is now, if it is elsewhere than the manifest says.
        on_progress: Called after every step of a compression.
        should_stop: Asked before every step.
        policy: Which models and files may be read.

    Raises:
        InputRefused: If the manifest, the source, the calibration text or `out` is not what it must be.
        WorkFailed: If the work could not be finished.
        Cancelled: If `should_stop` said so.
    """
    manifest = read_manifest(file)
    policy = policy or SourcePolicy.from_environment()
    policy = replace(policy, quantized=manifest["kind"] == REMOVAL)
    if (out / NAME).exists():
        raise OutputRefused(Problem("/out", f"{out} holds a finished result; give a new folder.", str(out)))
    source = _source(manifest, model, policy)
    check_source(manifest, source, should_stop)
    if manifest["kind"] == REMOVAL:
        made = _remove(manifest, source, out, should_stop, policy)
    else:
        made = _compress(manifest, source, out, on_progress, should_stop, policy)
    return Replay(
        manifest=file,
        kind=manifest["kind"],
        out=out,
        files=tuple(_verdicts(file.parent, manifest, made)),
        environment=_changes(manifest["environment"], made["environment"]),
    )


def _source(manifest: Mapping[str, Any], model: str | None, policy: SourcePolicy) -> Source:
    """Find the source: where it is said to be now, else where it was, a hub model at its commit."""
    if model is not None:
        return resolve(model, policy)
    reference = str(manifest["source"]["reference"])
    if manifest["source"].get("kind") == "hub":
        name = reference.removeprefix("hf:").partition("@")[0]
        reference = f"hf:{name}@{manifest['source']['revision']}"
    try:
        return resolve(reference, policy)
    except ModelRefused as error:
        message = (
            f"is not given, and the manifest's model {reference} cannot be used: {error.problems[0].message} "
            "Say with --model where it is now."
        )
        raise ModelRefused(Problem("--model", message, reference)) from error


def check_source(manifest: Mapping[str, Any], source: Source, should_stop: StopFn = never) -> None:
    """Check that the source is, file by file, the one that the result was made from.

    Raises:
        ModelRefused: With one problem for every file that differs.
    """
    if source.kind == "s3" and source.revision != manifest["source"]["revision"]:
        message = f"{source.reference} is not what the result was made from: names, sizes or ETags differ."
        raise ModelRefused(Problem("/model", message, source.revision))
    stated, found = dict(manifest["source"]["files"]), hashed_source(source, should_stop)
    if len(stated) == len(found) == 1:
        (there,) = found
        stated = {there: next(iter(stated.values()))}
    problems = [
        Problem("/model", f"{source.path} is not what the result was made from: {words}.", name)
        for name in sorted({*stated, *found})
        if (words := _difference(name, stated.get(name), found.get(name)))
    ]
    if problems:
        raise ModelRefused(*problems)


def _difference(name: str, stated: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> str:
    if found is None:
        return f"{name} is missing"
    if stated is None:
        return f"{name} was not there"
    if stated["sha256"] == found["sha256"]:
        return ""
    return f"{name} has the SHA-256 {found['sha256']}, the manifest says {stated['sha256']}"


def _remove(
    manifest: Mapping[str, Any], source: Source, out: Path, should_stop: StopFn, policy: SourcePolicy
) -> dict[str, Any]:
    remove_layers(source, out, manifest["kept"], policy, manifest=True, should_stop=should_stop)
    return dict(json.loads((out / REMOVAL_NAME).read_text(encoding="utf-8")))


def _compress(
    manifest: Mapping[str, Any],
    source: Source,
    out: Path,
    on_progress: ProgressFn | None,
    should_stop: StopFn,
    policy: SourcePolicy,
) -> dict[str, Any]:
    from trsp_core.pipeline import compress

    spec = CompressionSpec.from_dict({**manifest["spec"], "model": source.reference})
    _check_calibration(spec, manifest, source, policy)
    compress(spec, workdir=out, on_progress=on_progress, should_stop=should_stop, policy=policy)
    return dict(json.loads((out / NAME).read_text(encoding="utf-8")))


def _check_calibration(
    spec: CompressionSpec, manifest: Mapping[str, Any], source: Source, policy: SourcePolicy
) -> None:
    """Refuse, before any work, a text that gives other tokens than it gave then.

    Raises:
        CalibrationRefused: If it does, or cannot be read.
    """
    from trsp_core.calibration.windows import calibration_windows
    from trsp_core.checkpoint import load_tokenizer

    length = preflight(spec, policy).sequence_length
    windows = calibration_windows(
        spec.calibration.references(),
        load_tokenizer(materialize(source, policy)),
        sequences=spec.calibration.sequences,
        length=length,
        seed=spec.seed,
        policy=policy,
    )
    if windows.sha256 != manifest["calibration_sha256"]:
        message = (
            f"{spec.calibration.set} gives other tokens than the result was made with (SHA-256 {windows.sha256},"
            f" the manifest says {manifest['calibration_sha256']}): the text or the tokenizer has changed."
        )
        raise CalibrationRefused(Problem("/calibration/set", message, spec.calibration.set))


def _verdicts(beside: Path, manifest: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[FileVerdict]:
    stated, rebuilt = (_compared(item) for item in (manifest, made))
    kept = any((beside / name).is_file() for name in stated)
    for name in sorted({*stated, *rebuilt}):
        there = beside / name
        yield FileVerdict(
            name=name,
            stated=stated.get(name),
            rebuilt=rebuilt.get(name),
            beside=sha256_of(there) if there.is_file() else None,
            kept=kept,
        )


def _compared(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return path -> SHA-256 of the files that a replay can make again to the bit.

    The model card of a removal names the source as it was given, so a source that moved gives another one.
    """
    every = manifest["kind"] == REMOVAL
    return {
        name: item["sha256"]
        for name, item in manifest["files"].items()
        if (name != CARD if every else name.startswith(_COMPARED))
    }


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = sorted({*then, *now})
    return {name: (then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)}

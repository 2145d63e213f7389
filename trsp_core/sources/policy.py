"""What may be read, and from where: decided by whoever runs the program, never by a job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trsp_core.errors import ModelRefused, Problem
from trsp_core.wording import plain, printable

Kind = Literal["folder", "gguf", "hub", "demo", "s3"]
HUB_SWITCH = "TRSP_HUB_ENABLED"
S3_SWITCH = "TRSP_S3_ENABLED"
FILE_ROOTS = "TRSP_FILE_ROOTS"


def default_cache_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Return `TRSP_CACHE`, or `~/.cache/trsp` where it is not set."""
    return Path(environment.get("TRSP_CACHE") or "~/.cache/trsp").expanduser()


def split_roots(text: str) -> tuple[Path, ...]:
    """Return the folders of `TRSP_FILE_ROOTS`, absolute: joined by the path separator, `~` is the home folder."""
    return tuple(Path(part).expanduser().resolve() for part in text.split(os.pathsep) if part.strip())


def _default_dataset_root() -> Path | None:
    name = os.environ.get("TRSP_DATASETS")
    return Path(name).expanduser() if name else None


def _is_on(environment: Mapping[str, str], switch: str) -> bool:
    return environment.get(switch, "").lower() in {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True)
class UploadedText:
    """A text that was given to a service, as a job may use it.

    Attributes:
        kind: The set that reads such files: `text`, `jsonl` or `parquet`.
        size: Bytes.
        path: Where it lies on this machine; None where only its existence counts.
    """

    kind: str
    size: int
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """Which sources may be used.

    Attributes:
        hub_enabled: Whether models and data sets may be downloaded.
        roots: Folders that local models and texts must lie in, symbolic links followed; None for any.
        cache_dir: Where dequantized models, and what was fetched from S3, are kept.
        dataset_root: Folder with local copies of the hub's data sets (`wikitext2/`, `ptb/`, …), tried first.
        s3_enabled: Whether models may be read from S3, with the credentials of the environment.
        quantized: Whether weights that a quantizer packed are taken; only for work that moves bytes and
            neither runs nor changes the model.
        fetched: Revisions of S3 models by reference that lie in the cache: they are read there, and S3 is not
            asked.
        uploads: The texts that a service has for the job, by their ids; nobody else has any.
    """

    hub_enabled: bool = False
    roots: tuple[Path, ...] | None = None
    cache_dir: Path = field(default_factory=default_cache_dir)
    dataset_root: Path | None = field(default_factory=_default_dataset_root)
    s3_enabled: bool = False
    quantized: bool = False
    fetched: Mapping[str, str] = field(default_factory=dict)
    uploads: Mapping[str, UploadedText] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> SourcePolicy:
        """Read `TRSP_HUB_ENABLED`, `TRSP_S3_ENABLED`, `TRSP_FILE_ROOTS`, `TRSP_CACHE` and `TRSP_DATASETS`.

        What is not set has its default. Without `TRSP_FILE_ROOTS` any local file may be read, since whoever
        runs a command reads with their own rights; a service reads the same variable, and without it none.
        """
        datasets = environment.get("TRSP_DATASETS")
        return cls(
            hub_enabled=_is_on(environment, HUB_SWITCH),
            s3_enabled=_is_on(environment, S3_SWITCH),
            roots=split_roots(environment.get(FILE_ROOTS, "")) or None,
            cache_dir=default_cache_dir(environment),
            dataset_root=Path(datasets).expanduser() if datasets else None,
        )

    def allows(self, path: Path) -> bool:
        """Whether `path`, its symbolic links followed, lies in one of the roots; one that leads nowhere does not."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError):
            return False
        return self.roots is None or any(real.is_relative_to(root.resolve()) for root in self.roots)


@dataclass(frozen=True, slots=True)
class Source:
    """A model that was found and checked.

    Attributes:
        reference: The model as it was named.
        kind: Where it is.
        path: A folder of safetensors; the file for the kinds `gguf` and `demo`; for `s3` an outline, a folder
            in the cache whose weight files have their headers and holes instead of weights.
        revision: What pins its content: the hub's commit hash, a SHA-256 (see `fingerprint`), or for `s3` a
            SHA-256 over the names, sizes and ETags of its objects.
    """

    reference: str
    kind: Kind
    path: Path
    revision: str


def refused(message: str, value: object = None) -> ModelRefused:
    """Return the refusal of a model, to be raised; what the model's author wrote into it is made printable."""
    return ModelRefused(Problem("/model", printable(message), plain(value)))

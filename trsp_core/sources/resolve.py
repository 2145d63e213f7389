"""From a model reference to a checked source."""

from __future__ import annotations

from pathlib import Path

from trsp_core.sources.demo import demo_file
from trsp_core.sources.facts import gguf_layers
from trsp_core.sources.fingerprint import fingerprint
from trsp_core.sources.gguf_file import gguf_model_type, read_gguf_header
from trsp_core.sources.gguf_layout import gguf_layout
from trsp_core.sources.hub import is_hub_name, resolve_hub
from trsp_core.sources.policy import Kind, Source, SourcePolicy, refused
from trsp_core.sources.s3 import resolve_s3
from trsp_core.sources.validate import CONFIG, check_folder, weight_files

_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
_FORMS = "a folder, hf:ORG/NAME[@REVISION], s3://BUCKET/PREFIX, gguf:FILE or demo:smollm2-135m"

_LONGEST = 1024


def resolve(reference: str, policy: SourcePolicy) -> Source:
    """Find and check a model; nothing of it is executed, only headers are read.

    `ORG/NAME` may be a folder as well as a hub model: an existing folder wins, `hf:` says that the hub is
    meant.

    Args:
        reference: A folder, `[hf:]ORG/NAME[@REVISION]`, `s3://BUCKET/PREFIX`, `gguf:FILE` or
            `demo:smollm2-135m`.
        policy: Which sources may be used.

    Raises:
        ModelRefused: With pointer `/model`, saying what is wrong and what would be right.
    """
    if len(reference) > _LONGEST or not reference.isprintable():
        raise refused(f"is {reference!r}; give {_FORMS}.", reference)
    kind, colon, rest = reference.partition(":")
    if colon and kind in _RESOLVERS:
        return _RESOLVERS[kind](reference, rest, policy)
    if colon and rest.startswith("//"):
        raise refused(
            f"is {reference!r}; an address of that kind is not read here, give {_FORMS}.", reference
        )
    if not reference.strip():
        raise refused(f"is {reference!r}; give {_FORMS}.", reference)
    path = _path(reference, reference)
    if is_hub_name(reference) and not (policy.allows(path) and path.is_dir()):
        return resolve_hub(reference, reference, policy)
    return _resolve_folder(reference, path, policy)


def _resolve_folder(reference: str, path: Path, policy: SourcePolicy) -> Source:
    folder = _allowed(reference, path, policy)
    if folder.is_file() and folder.suffix == ".gguf":
        raise refused(f"{reference} is a file; a GGUF model is named gguf:{reference}.", reference)
    if not folder.is_dir():
        raise refused(f"{reference} is no folder; give {_FORMS}.", reference)
    check_folder(folder, policy)
    companions = [folder / name for name in (CONFIG, *_TOKENIZER_FILES)]
    return Source(reference, "folder", folder, fingerprint(companions, weight_files(folder)))


def gguf_file(reference: str, policy: SourcePolicy) -> Path | None:
    """Return the GGUF file that a reference names, unread; None where it names something else.

    Raises:
        ModelRefused: If it is not there or may not be read.
    """
    kind, _, name = reference.partition(":")
    if kind == "demo":
        return demo_file(name)
    return _gguf_path(reference, name, policy) if kind == "gguf" else None


def _gguf_path(reference: str, name: str, policy: SourcePolicy) -> Path:
    path = _allowed(reference, _path(reference, name), policy)
    if not path.is_file():
        raise refused(f"{name!r} is no file; give gguf:FILE.", reference)
    return path


def _resolve_gguf(reference: str, name: str, policy: SourcePolicy) -> Source:
    return _checked_gguf(reference, "gguf", _gguf_path(reference, name, policy))


def _resolve_demo(reference: str, name: str, _: SourcePolicy) -> Source:
    return _checked_gguf(reference, "demo", demo_file(name))


def _checked_gguf(reference: str, kind: Kind, path: Path) -> Source:
    header = read_gguf_header(path)
    gguf_model_type(header, path)
    gguf_layers(header, path)
    gguf_layout(header, path)
    return Source(reference, kind, path, fingerprint([], [path]))


def _path(reference: str, name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise refused(
            f"{reference} names the home folder of nobody known; give {_FORMS}.", reference
        ) from error


def _allowed(reference: str, path: Path, policy: SourcePolicy) -> Path:
    """Return the path with its links followed; what lies outside the roots is refused unseen."""
    if not policy.allows(path):
        roots = ", ".join(map(str, policy.roots or ()))
        raise refused(
            f"{reference} lies outside the folders that models may be read from ({roots}).", reference
        )
    return path.resolve()


_RESOLVERS = {"hf": resolve_hub, "gguf": _resolve_gguf, "demo": _resolve_demo, "s3": resolve_s3}

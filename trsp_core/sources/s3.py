"""Models in an S3 bucket: listed, judged by configs and headers, and only then read, range by range.

What is judged is an outline: a folder in the cache with every object under the prefix as a file of its size,
of which only configs, companions and the headers of the weight files are filled in; the rest are holes. So a
model in a bucket goes through the same checks as one in a folder, and no weight has moved.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from trsp_core.errors import TrspError, WorkFailed
from trsp_core.files import check_room, exclusive, folder_written_whole
from trsp_core.safetensors_file import MAX_HEADER_BYTES
from trsp_core.sources.bucket import Bucket, StoredObject
from trsp_core.sources.companions import COMPANIONS, QUANTIZER_FILES, companion_files
from trsp_core.sources.policy import S3_SWITCH, Source, SourcePolicy, refused
from trsp_core.sources.validate import CONFIG, INDEX, check_config, check_folder, read_json, weight_files

_FORMAT = "v1"
_MOST_OBJECTS = 10_000
_MOST_BYTES = 256 * 1024 * 1024
_ADDRESS = re.compile(
    r"//(?!\d+\.\d+\.\d+\.\d+(?:/|$)|[^/]*\.\.)([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?"
)
"""Bucket and prefix. S3 gives no bucket the form of an IP address or two dots in a row, and nor is one asked for."""
_SMALL = (CONFIG, INDEX, *QUANTIZER_FILES, *COMPANIONS)


def resolve_s3(reference: str, rest: str, policy: SourcePolicy) -> Source:
    """Return a model under an S3 prefix, judged by its outline; no weight is read.

    The credentials are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …); without any, requests are not signed.

    Args:
        reference: The model as it was named.
        rest: `//BUCKET/PREFIX`.
        policy: Whether S3 may be asked, and where the outline is kept.

    Raises:
        ModelRefused: If it is not there, not allowed, unreachable or unsafe.
    """
    bucket, prefix = _address(reference, rest)
    if reference in policy.fetched:
        return _fetched(reference, policy)
    if not policy.s3_enabled:
        raise refused(f"{reference} is in S3, and S3 access is off. Set {S3_SWITCH}=1 to read it.", reference)
    with _bucket(bucket, prefix, lambda message: refused(message, reference)) as store:
        objects = _objects(store, reference)
        revision = _revision(objects)
        target = _outline(policy, revision)
        with exclusive(target.with_name(f".{revision}.lock")):
            if (target / CONFIG).is_file():
                check_folder(target, _trusting(policy, target))
            else:
                with folder_written_whole(target, replace=True) as temporary:
                    _draw(store, objects, temporary, policy)
    return Source(reference, "s3", target, revision)


def _fetched(reference: str, policy: SourcePolicy) -> Source:
    """Return a model whose outline lies in the cache, checked like any other."""
    revision = policy.fetched[reference]
    outline = _outline(policy, revision)
    check_folder(outline, _trusting(policy, outline))
    return Source(reference, "s3", outline, revision)


def _outline(policy: SourcePolicy, revision: str) -> Path:
    return policy.cache_dir / "outlines" / _FORMAT / revision


def _address(reference: str, rest: str) -> tuple[str, str]:
    found = _ADDRESS.fullmatch(rest)
    prefix = (found[2] or "").strip("/") if found else ""
    if found is None or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise refused(f"is {reference!r}; a model in S3 is named s3://BUCKET/PREFIX.", reference)
    return found[1], prefix


@contextmanager
def _bucket(bucket: str, prefix: str, error: Callable[[str], TrspError]) -> Iterator[Bucket]:
    store = Bucket(bucket, prefix, error)
    try:
        yield store
    finally:
        store.close()


def _objects(store: Bucket, reference: str) -> list[StoredObject]:
    """Return the objects under the prefix without the markers that stand for folders."""
    found = store.objects(_MOST_OBJECTS)
    parents = {str(parent) for item in found for parent in PurePosixPath(item.name).parents}
    objects = [item for item in found if item.size or item.name not in parents]
    if not any(item.name == CONFIG for item in objects):
        raise refused(f"{reference} holds no {CONFIG}; a model folder holds it and safetensors.", reference)
    return objects


def _revision(objects: list[StoredObject]) -> str:
    digest = hashlib.sha256()
    for item in objects:
        digest.update(f"{item.name}\0{item.size}\0{item.e_tag}\n".encode())
    return digest.hexdigest()


def _trusting(policy: SourcePolicy, folder: Path) -> SourcePolicy:
    return SourcePolicy(roots=(folder,), cache_dir=policy.cache_dir, quantized=policy.quantized)


def _draw(store: Bucket, objects: list[StoredObject], folder: Path, policy: SourcePolicy) -> None:
    """Write an outline, the config first: nothing else is fetched of a model that it rules out."""
    found = {item.name: item for item in objects}
    for item in objects:
        _make_hole(folder, item)
    small = [item for item in objects if _is_small(item.name)]
    if sum(item.size for item in small) > _MOST_BYTES:
        raise refused(f"its configs and companions are larger than {_MOST_BYTES} bytes.")
    _fill(store, found[CONFIG], folder)
    check_config(read_json(folder / CONFIG), quantized=policy.quantized)
    for item in small:
        if item.name != CONFIG:
            _fill(store, item, folder)
    for path in weight_files(folder):
        _fill_header(store, found[path.name], path)
    check_folder(folder, _trusting(policy, folder))


def _make_hole(folder: Path, item: StoredObject) -> None:
    parts = PurePosixPath(item.name).parts
    if item.name.startswith("/") or ".." in parts or "\\" in item.name or "\0" in item.name:
        raise refused(f"holds the object {item.name!r}, which is no file's name.", item.name)
    path = folder.joinpath(*parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.truncate(item.size)
    except OSError as error:
        raise refused(f"holds the object {item.name!r}, which can be no file: {error}.", item.name) from error


def _is_small(name: str) -> bool:
    return any(
        PurePosixPath(name).match(pattern) and name.count("/") == pattern.count("/") for pattern in _SMALL
    )


def _fill(store: Bucket, item: StoredObject, folder: Path) -> None:
    (folder / item.name).write_bytes(b"".join(store.read(item, 0, item.size)))


def _fill_header(store: Bucket, item: StoredObject, path: Path) -> None:
    """Put a weight file's header in its place; one that cannot be is left for the checks to refuse."""
    start = b"".join(store.read(item, 0, min(8, item.size)))
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    end = 8 + length if length <= min(MAX_HEADER_BYTES, item.size - 8) else len(start)
    with path.open("r+b") as file:
        for piece in store.read(item, 0, end):
            file.write(piece)


@contextmanager
def read_s3(source: Source) -> Iterator[Callable[[Path, int, int], Iterator[memoryview]]]:
    """Give a function that reads bytes of a weight file of an S3 source, named by its place in the outline.

    Raises:
        ModelRefused: If the objects are no longer those that were resolved.
        WorkFailed: While reading, if the store stops answering or an object is replaced.
    """
    bucket, prefix = _address(source.reference, source.reference.partition(":")[2])
    with _bucket(bucket, prefix, WorkFailed) as store:
        objects = _objects(store, source.reference)
        if _revision(objects) != source.revision:
            raise refused(f"{source.reference} was changed while it was read.", source.reference)
        found = {item.name: item for item in objects}
        yield lambda path, begin, end: store.read(found[path.name], begin, end)


def fetch_s3(source: Source, target: Path) -> None:
    """Download what an S3 source's outline leaves out into the folder `target`, whole or not at all.

    Raises:
        ModelRefused, WorkFailed: As in `read_s3`.
        StorageFull: If the disk has too little room.
    """
    weights = weight_files(source.path)
    check_room(target, sum(path.stat().st_size for path in weights))
    with read_s3(source) as read, folder_written_whole(target, replace=True) as temporary:
        for path in weights:
            with (temporary / path.name).open("wb") as file:
                for piece in read(path, 0, path.stat().st_size):
                    file.write(piece)
        small = [source.path / name for name in (CONFIG, INDEX) if (source.path / name).is_file()]
        for path in [*small, *companion_files(source.path)]:
            copy = temporary / path.relative_to(source.path)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
        check_folder(temporary, SourcePolicy())

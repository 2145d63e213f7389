"""What headers tell of a model, looked up anew or remembered for as long as the model's files stay the same."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trsp_core.results import ModelFacts
from trsp_core.sources.facts import inspect
from trsp_core.sources.folder_files import walk
from trsp_core.sources.policy import Source, SourcePolicy
from trsp_core.sources.resolve import resolve

SETTLED_SECONDS = 2.0
"""A file that changed less than this before it was read may change again without its times telling."""
MOST_MODELS = 256
MOST_FILES = 1000

Mark = tuple[int, ...]
_Key = tuple[str, tuple[Path, ...] | None, bool]


@dataclass(frozen=True, slots=True)
class Looked:
    """A model that was found and checked, and what its headers tell."""

    source: Source
    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class _Known:
    looked: Looked
    paths: tuple[Path, ...]
    marks: tuple[Mark, ...]


def look(reference: str, policy: SourcePolicy) -> Looked:
    """Find, check and inspect a model; arguments and errors are those of `resolve`."""
    source = resolve(reference, policy)
    return Looked(source, inspect(source))


class Lookups:
    """Remembers the models of this machine by name; for use by many threads.

    A model is known by device, inode, size and times of every file and folder of it, and of the name it goes
    by. So a changed, added, removed or re-linked file makes it unknown, and so does another set of folders
    that may be read. Models of the hub and of S3 are looked up each time.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, reference: str, policy: SourcePolicy) -> Looked:
        """Do what the function `look` does, or return what it returned before for the same files."""
        key = (reference, policy.roots, policy.quantized)
        with self._lock:
            known = self._known.get(key)
        if known is not None and _marks(known.paths) == known.marks:
            return known.looked
        begun = time.time()
        found = look(reference, policy)
        self._keep(key, found, _watched(reference, found.source), begun)
        return found

    def _keep(self, key: _Key, found: Looked, paths: tuple[Path, ...], begun: float) -> None:
        marks = _marks(paths)
        settled = _settled(paths, begun - SETTLED_SECONDS)
        with self._lock:
            self._known.pop(key, None)
            if paths and marks is not None and settled:
                self._known[key] = _Known(found, paths, marks)
            while len(self._known) > MOST_MODELS:
                self._known.popitem(last=False)


def _watched(reference: str, source: Source) -> tuple[Path, ...]:
    """Return the paths that show whether a model is still the same; none where nothing shows it."""
    if source.kind not in ("folder", "gguf", "demo"):
        return ()
    name = source.path if source.kind == "demo" else Path(reference.removeprefix("gguf:")).expanduser()
    if name.resolve() != source.path.resolve():
        return ()
    paths = [name, source.path]
    for path in walk(source.path) if source.path.is_dir() else ():
        paths.append(path)
        if len(paths) > MOST_FILES:
            return ()
    return tuple(paths)


def _marks(paths: Iterable[Path]) -> tuple[Mark, ...] | None:
    """Return what tells a change of each path, a link's own and its target's; None if one is gone."""
    try:
        return tuple(_mark(found) for path in paths for found in _states(path))
    except OSError:
        return None


def _mark(found: os.stat_result) -> Mark:
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _settled(paths: Iterable[Path], before: float) -> bool:
    try:
        return all(found.st_ctime < before for path in paths for found in _states(path))
    except OSError:
        return False


def _states(path: Path) -> Iterator[os.stat_result]:
    found = os.lstat(path)
    yield found
    if stat.S_ISLNK(found.st_mode):
        yield path.stat()

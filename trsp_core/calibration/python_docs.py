"""Python's own documentation, which every interpreter carries: technical English prose without a download."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import ClassVar

from trsp_core.calibration.base import Split, refused
from trsp_core.sets import SetReference
from trsp_core.sources import SourcePolicy

_EVALUATED = 4


class PythonDocs:
    """The topics of `pydoc_data`, each a document; every fourth by name is held out for evaluation.

    Topics and not windows are divided, so that no passage stands on both sides.
    """

    separator: ClassVar[str] = "\n\n"
    held_out: ClassVar[bool] = True

    def __init__(self, reference: SetReference, policy: SourcePolicy) -> None:
        del reference, policy

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the topics of a split in order of name."""
        yield from _topics(split)

    def check(self, least_bytes: int) -> None:
        """Refuse a window longer than either split."""
        for split in ("calibration", "evaluation"):
            size = _size(split)
            if size < least_bytes:
                raise refused(f"python-docs has {size} bytes, fewer than a window's {least_bytes} tokens.")


def _topics(split: Split) -> Iterator[str]:
    from pydoc_data.topics import topics

    for place, name in enumerate(sorted(topics)):
        if (place % _EVALUATED == _EVALUATED - 1) == (split == "evaluation"):
            yield topics[name].strip()


@cache
def _size(split: Split) -> int:
    """Return the bytes of a split; the interpreter's documentation does not change while it runs."""
    return sum(len(text.encode()) for text in _topics(split))

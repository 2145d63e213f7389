"""Byte ranges of a download (RFC 9110): one range is served, several are answered by the whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from api.errors import ApiError

_SINGLE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `end`, the end not included."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.end - self.start


def requested_range(headers: Mapping[str, str], tag: str, size: int) -> ByteRange | None:
    """Return the range that a request asks for, or None where it is to get the whole.

    Args:
        headers: The request's.
        tag: The file's ETag, quoted; an `If-Range` with another one asks for the whole.
        size: The file's size, bytes.

    Raises:
        ApiError: If the file has no such range (416).
    """
    if headers.get("if-range", tag) != tag:
        return None
    match = _SINGLE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        wanted = ByteRange(max(0, size - int(last)), size)
    else:
        wanted = ByteRange(int(first), min(int(last) + 1, size) if last else size)
    if last and first and int(last) < int(first):
        return None
    if wanted.start >= size or wanted.length <= 0:
        detail = f"The file has {size} bytes; {headers['range'][:80]!r} lies outside of it."
        raise ApiError("range-not-satisfiable", detail, headers={"Content-Range": f"bytes */{size}"})
    return wanted

"""Whether an uploaded text is what it is said to be: a quick look, in bounded memory, before it is kept.

The whole of it is read when a job uses it; what such a job finds is refused there, by line and field.
"""

from __future__ import annotations

import codecs
import json
from pathlib import Path

from trsp_core.errors import CalibrationRefused, Problem

KINDS = ("text", "jsonl", "parquet")
_PIECE_BYTES = 1 << 20
_FIRST_LINE_BYTES = 1 << 24
_MAGIC = b"PAR1"


def check_content(path: Path, kind: str) -> None:
    """Refuse a file that is empty or plainly not of its kind.

    Raises:
        CalibrationRefused: Saying what is wrong.
    """
    if path.stat().st_size == 0:
        raise _refused("the text is empty")
    if kind == "parquet":
        _check_parquet(path)
        return
    _check_utf8(path)
    if kind == "jsonl":
        _check_first_line(path)


def _check_parquet(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
        file.seek(-min(len(_MAGIC), path.stat().st_size), 2)
        if head != _MAGIC or file.read() != _MAGIC:
            raise _refused("it is no parquet file: PAR1 must stand at its start and its end")


def _check_utf8(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            _decode(decoder, piece, offset)
            offset += len(piece)
        _decode(decoder, b"", offset, final=True)


def _decode(decoder: codecs.IncrementalDecoder, piece: bytes, offset: int, *, final: bool = False) -> None:
    pending = len(decoder.getstate()[0])
    try:
        decoder.decode(piece, final)
    except UnicodeDecodeError as error:
        place = offset - pending + error.start
        raise _refused(f"it is no UTF-8: the byte at offset {place} fits none") from error


def _check_first_line(path: Path) -> None:
    with path.open("rb") as file:
        line = file.readline(_FIRST_LINE_BYTES)
    if len(line) == _FIRST_LINE_BYTES:
        raise _refused(f"its first line is longer than {_FIRST_LINE_BYTES} bytes")
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _refused("its first line is no JSON; JSON lines hold one object a line") from error
    if not isinstance(value, dict):
        raise _refused("its first line is no JSON object; JSON lines hold one object a line")


def _refused(message: str) -> CalibrationRefused:
    return CalibrationRefused(Problem("", f"{message}."))

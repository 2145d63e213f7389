"""Sets that are one file: plain text, JSON lines, parquet. Read as a stream."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from trsp_core.calibration.base import Split, refused
from trsp_core.errors import CalibrationRefused, closest
from trsp_core.sets import SetReference
from trsp_core.sources import SourcePolicy

DEFAULT_FIELD = "text"
_PIECE_BYTES = 1024 * 1024
_BATCH_ROWS = 1024


class TextFile:
    """A UTF-8 text file, given in pieces that join to it exactly. It has one text for both splits."""

    separator: ClassVar[str] = ""
    held_out: ClassVar[bool] = False
    kind: ClassVar[str] = "text"

    def __init__(self, reference: SetReference, policy: SourcePolicy, *, name: str | None = None) -> None:
        self._name = name or str(reference)
        self._path = Path(reference.argument or "").expanduser()
        self._field = reference.field or DEFAULT_FIELD
        self._policy = policy

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the documents of the file; the same for both splits.

        Raises:
            CalibrationRefused: If the file is missing, not allowed, or not what its kind says.
        """
        del split
        self.check(1)
        yield from self._read()

    def check(self, least_bytes: int) -> None:
        """Refuse a file that is missing, lies outside the roots, or is smaller than `least_bytes`."""
        if not self._policy.allows(self._path):
            roots = ", ".join(map(str, self._policy.roots or ()))
            raise refused(f"{self._name} lies outside the folders that may be read ({roots}).", self._name)
        if not self._path.is_file():
            raise refused(f"{self._name} names no file; give {self.kind}:FILE.", self._name)
        size = self._path.stat().st_size
        if size == 0:
            raise refused(f"{self._name} is an empty file.", self._name)
        self.check_size(size, least_bytes)

    def check_size(self, size: int, least_bytes: int) -> None:
        """Refuse a file of `size` bytes that cannot hold `least_bytes` bytes of text."""
        if size < least_bytes:
            message = f"{self._name} has {size} bytes, too few for one window of {least_bytes} tokens."
            raise refused(message, self._name)

    def _read(self) -> Iterator[str]:
        """Yield the text in pieces; newlines as they are, a byte-order mark left out."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        read, first = 0, True
        with self._path.open("rb") as file:
            while True:
                piece = file.read(_PIECE_BYTES)
                pending = len(decoder.getstate()[0])
                try:
                    text = decoder.decode(piece, final=not piece)
                except UnicodeDecodeError as error:
                    raise self._not_utf8(read - pending + error.start) from error
                yield text.removeprefix("\ufeff") if first else text
                if not piece:
                    return
                read, first = read + len(piece), False

    def _not_utf8(self, offset: int) -> CalibrationRefused:
        return refused(f"{self._name} is no UTF-8: the byte at offset {offset} fits none.", self._name)


class JsonLines(TextFile):
    """A file of JSON objects, one a line; each one's field is a document."""

    separator: ClassVar[str] = "\n\n"
    kind: ClassVar[str] = "jsonl"

    def _read(self) -> Iterator[str]:
        offset = 0
        with self._path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = self._decode_line(raw, offset)
                offset += len(raw)
                if line.strip():
                    yield self._text_of(line, number)

    def _decode_line(self, raw: bytes, offset: int) -> str:
        try:
            return raw.decode("utf-8-sig" if offset == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise self._not_utf8(offset + error.start) from error

    def _text_of(self, line: str, number: int) -> str:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise refused(f"{self._name}: line {number} is no JSON: {error}.", self._name) from error
        if not isinstance(value, dict):
            raise refused(f"{self._name}: line {number} is no JSON object.", self._name)
        if self._field not in value:
            raise missing_field(f"{self._name}: line {number}", self._field, list(value))
        text = value[self._field]
        if not isinstance(text, str):
            message = f"{self._name}: line {number} has no text in {self._field!r} but {type(text).__name__}."
            raise refused(message, self._name)
        return text


class ParquetFile(TextFile):
    """A parquet file; each row's column is a document. Read in batches of rows."""

    separator: ClassVar[str] = "\n\n"
    kind: ClassVar[str] = "parquet"

    def check_size(self, size: int, least_bytes: int) -> None:
        """Parquet is compressed: its size says nothing of its text."""

    def _read(self) -> Iterator[str]:
        yield from parquet_texts(self._path, self._field, self._name)


def parquet_texts(path: Path, column: str, name: str) -> Iterator[str]:
    """Yield a text column's rows; rows without a value are passed over.

    Args:
        path: The file.
        column: The column.
        name: What errors call the file.

    Raises:
        CalibrationRefused: If it is no parquet file, or has no such column of text.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_column(file.schema_arrow, column, name)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[column]):
                yield from (text for text in batch.column(0).to_pylist() if text is not None)
    except (pyarrow.ArrowException, OSError) as error:
        raise refused(f"{name} could not be read as parquet: {str(error).splitlines()[0]}", name) from error


def _check_column(schema: Any, column: str, name: str) -> None:
    import pyarrow

    if column not in schema.names:
        raise missing_field(name, column, schema.names)
    kind = schema.field(column).type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise refused(f"{name}: column {column!r} holds {kind}, not text.", name)


def missing_field(place: str, field: str, known: list[str]) -> CalibrationRefused:
    """Return the refusal of a field that is not there, naming those that are."""
    names = tuple(str(item) for item in known[:20])
    message = f"{place} has no field {field!r}; it has {', '.join(names) or 'none'}."
    return refused(message, field, allowed=names, suggestion=closest(field, names))

"""Safetensors files that are cut, overlap, lie or are something else, and indexes that do not fit them."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

from tests.hostile.spoiling import (
    Case,
    both,
    gone,
    header,
    pickled,
    put,
    read_safetensors,
    safetensors,
    sharded,
)

NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"
FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def _cut(keep: int) -> Any:
    return lambda folder: put(FILE, (folder / FILE).read_bytes()[:keep])(folder)


def _entry(name: str = NORM, **changes: Any) -> Any:
    return header(lambda entries: entries[name].update(changes))


def _named(name: str) -> Any:
    """Give a tensor beyond the model's another name."""

    def change(entries: dict[str, Any]) -> None:
        entries[name] = entries.pop(NORM)

    return header(change)


def _overlap(entries: dict[str, Any]) -> None:
    first, second = (f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1))
    entries[second]["data_offsets"] = entries[first]["data_offsets"]


def _gap(folder: Path) -> None:
    entries, data = read_safetensors(folder / FILE)
    for entry in entries.values():
        if "data_offsets" in entry:
            entry["data_offsets"] = [place + 64 for place in entry["data_offsets"]]
    (folder / FILE).write_bytes(safetensors(entries, bytes(64) + data))


def _beyond(entries: dict[str, Any]) -> None:
    entries[NORM]["data_offsets"] = [place + 2**40 for place in entries[NORM]["data_offsets"]]


def _twice(folder: Path) -> None:
    entries, data = read_safetensors(folder / FILE)
    raw = json.dumps(entries)
    (folder / FILE).write_bytes(
        safetensors((raw[:-1] + f', "{NORM}": {json.dumps(entries[NORM])}}}').encode(), data)
    )


def _utf16(folder: Path) -> None:
    entries, data = read_safetensors(folder / FILE)
    (folder / FILE).write_bytes(safetensors(json.dumps(entries).encode("utf-16"), data))


def _zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(50_000_000))


def _sparse(folder: Path) -> None:
    """Claim a terabyte of tensors, in a file that says it is as long and takes no room."""
    entries = {"x": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}
    raw = json.dumps(entries).encode()
    (folder / FILE).write_bytes(struct.pack("<Q", len(raw)) + raw)
    os.truncate(folder / FILE, 8 + len(raw) + 2**40)


def _sparse_header(folder: Path) -> None:
    (folder / FILE).write_bytes(struct.pack("<Q", 2**39))
    os.truncate(folder / FILE, 2**40)


def _longest_header(folder: Path) -> None:
    size = 16 * 1024 * 1024
    put(FILE, struct.pack("<Q", size) + ('{"' + "\U0001f600" * ((size - 2) // 4)).encode().ljust(size, b" "))(
        folder
    )


def _many_tensors(count: int) -> Any:
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    return lambda folder: put(FILE, safetensors({f"t{i}": entry for i in range(count)}, b""))(folder)


def _in_both(files: dict[str, dict[str, Any]], table: dict[str, str]) -> None:
    name = next(iter(files["a.safetensors"]))
    files["b.safetensors"][name] = files["a.safetensors"][name]


def _unnamed(files: dict[str, dict[str, Any]], table: dict[str, str]) -> None:
    files["b.safetensors"]["model.hidden.weight"] = next(iter(files["b.safetensors"].values())).clone()


def _swapped(files: dict[str, dict[str, Any]], table: dict[str, str]) -> None:
    name = next(iter(files["a.safetensors"]))
    table[name] = "b.safetensors"


def _index(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps({"weight_map": value})
    return both(lambda folder: (folder / FILE).rename(folder / "a.safetensors"), put(INDEX, text))


HEADER_CASES: dict[str, Case] = {
    "empty file": Case(put(FILE, b""), "cut short"),
    "cut in the length": Case(_cut(5), "cut short"),
    "cut after the length": Case(_cut(8), "cut short"),
    "cut in the header": Case(_cut(500), "cut short"),
    "cut in the data": Case(_cut(100_000), "bytes of tensors"),
    "one byte missing": Case(lambda f: _cut((f / FILE).stat().st_size - 1)(f), "bytes of tensors"),
    "one byte too many": Case(lambda f: put(FILE, (f / FILE).read_bytes() + b"x")(f), "bytes of tensors"),
    "header of 2^63 bytes": Case(put(FILE, struct.pack("<Q", 2**63) + b"{}"), "cut short"),
    "header of 2^64-1 bytes": Case(put(FILE, b"\xff" * 64), "cut short"),
    "header of no bytes": Case(put(FILE, bytes(64)), "cut short"),
    "header that is no JSON": Case(put(FILE, safetensors(b"{'a': 1}", b"")), "no valid JSON"),
    "header that is a list": Case(put(FILE, safetensors([], b"")), "no JSON object"),
    "header that is no UTF-8": Case(put(FILE, safetensors(b'{"\xff": 1}', b"")), "no UTF-8"),
    "header in UTF-16": Case(_utf16, "no UTF-8"),
    "header with a byte order mark": Case(put(FILE, safetensors(b"\xef\xbb\xbf{}", b"")), "BOM"),
    "header nested deep": Case(put(FILE, safetensors(b'{"a":' + b"[" * 100_000, b"")), "nested too deep"),
    "header of the longest name": Case(_longest_header, "no valid JSON"),
    "header of many tensors": Case(_many_tensors(10_000), "states 6 layers"),
    "header of too many values": Case(
        put(FILE, safetensors(b'{"a":[' + b"1," * 600_000 + b"1]}", b"")), "more than 500000 values"
    ),
    "header with a huge number": Case(
        put(FILE, safetensors(b'{"a":' + b"9" * 5000 + b"}", b"")), "number of 5000 digits"
    ),
    "header with NaN": Case(_entry(data_offsets=[0, float("nan")]), "wrong shape or place"),
    "tensor named twice": Case(_twice, "twice"),
    "metadata that is a list": Case(header(lambda e: e.update(__metadata__=[])), "__metadata__"),
    "metadata that is false": Case(header(lambda e: e.update(__metadata__=False)), "__metadata__"),
    "metadata with numbers": Case(header(lambda e: e.update(__metadata__={"a": 1})), "__metadata__"),
    "tensors that overlap": Case(header(_overlap), "overlaps"),
    "a gap before the tensors": Case(_gap, "gap"),
    "tensor beyond the file": Case(header(_beyond), "gap"),
    "negative offset": Case(_entry(data_offsets=[-128, 0]), "whole numbers from 0"),
    "offsets that end before they begin": Case(
        _entry(data_offsets=[128, 0]), "which its shape does not give"
    ),
    "huge offset": Case(_entry(data_offsets=[0, 2**63]), "which its shape does not give"),
    "offset that is a float": Case(_entry(data_offsets=[0.0, 128.0]), "whole numbers from 0"),
    "offset that is true": Case(_entry(data_offsets=[False, True]), "whole numbers from 0"),
    "offset that is text": Case(_entry(data_offsets="0,128"), "whole numbers from 0"),
    "three offsets": Case(_entry(data_offsets=[0, 64, 128]), "whole numbers from 0"),
    "no offsets": Case(header(lambda e: e[NORM].pop("data_offsets") and None), "whole numbers from 0"),
    "unknown element type": Case(_entry(dtype="F128"), "unknown element type"),
    "element type that is a list": Case(_entry(dtype=["F32"]), "unknown element type"),
    "element type nested deep": Case(
        lambda f: put(FILE, safetensors(b'{"a":{"dtype":' + b"[" * 900 + b"]" * 900 + b"}}", b""))(f),
        "unknown element type",
    ),
    "wider element type than the bytes": Case(_entry(dtype="F64"), "which its shape does not give"),
    "shape whose product overflows": Case(_entry(shape=[2**62, 2**62]), "which its shape does not give"),
    "shape that does not match the bytes": Case(_entry(shape=[31]), "which its shape does not give"),
    "shape with a negative size": Case(_entry(shape=[-1, -32]), "whole numbers from 0"),
    "shape of a thousand sizes": Case(_entry(shape=[1] * 1000), "1000 dimensions"),
    "shape of huge sizes": Case(_entry(shape=[10**30] * 50_000), "50000 dimensions"),
    "tensor that is a number": Case(header(lambda e: e.update({NORM: 5})), "no object"),
    "tensor name with a NUL": Case(_named("model.norm\0.weight"), "printable ASCII"),
    "tensor name with an escape": Case(_named("\x1b[2Jmodel.norm.weight"), "printable ASCII"),
    "tensor name that is a path": Case(_named("../../etc/passwd"), "looks like a path"),
    "tensor name without end": Case(_named("x" * 100_000), "1 to 512"),
    "empty tensor name": Case(_named(""), "1 to 512"),
    "layer index of 5000 digits": Case(_named(f"model.layers.{'9' * 5000}.x"), "1 to 512"),
    "layer index of other digits": Case(_named("model.layers.\u0663.x"), "printable ASCII"),
    "layer index with leading zeros": Case(_named("model.layers.01.x"), "leading zeros"),
    "layer index of 10^9": Case(_named("model.layers.1000000000.x"), "up to index 1000000000"),
    "zip archive": Case(_zip, "zip archive"),
    "pickle": Case(pickled(FILE), "pickle"),
    "GGUF file": Case(put(FILE, b"GGUF" + bytes(range(1, 100))), "GGUF file"),
    "sparse file of a terabyte": Case(_sparse, "the weights hold 0 layers"),
    "sparse file with a header of 512 GB": Case(_sparse_header, "at most 16777216 are read"),
    "index that leaves the folder": Case(_index({"x": "../model.safetensors"}), "beside it"),
    "index with an absolute path": Case(_index({"x": "/etc/passwd"}), "beside it"),
    "index with a name without end": Case(_index({"x": "a" * 5000 + ".safetensors"}), "beside it"),
    "index with a NUL": Case(_index({"x": "a\0.safetensors"}), "beside it"),
    "index with a lone surrogate": Case(_index('{"weight_map": {"x": "\\ud800.safetensors"}}'), "beside it"),
    "index that names a pickle": Case(both(_index({"x": "model.bin"}), pickled("model.bin")), "beside it"),
    "index that names a missing file": Case(_index({"x": "none.safetensors"}), "not there"),
    "index with a number for a file": Case(_index({"x": 5}), "where a file's name belongs"),
    "index with a list for a file": Case(_index({"x": ["a.safetensors"]}), "where a file's name belongs"),
    "index with nothing for a file": Case(_index({"x": None}), "where a file's name belongs"),
    "index without a map": Case(_index("{}"), "has no weight_map"),
    "index with an empty map": Case(_index({}), "has no weight_map"),
    "index that is no JSON": Case(_index("{"), "no valid JSON"),
    "index that names a tensor twice": Case(
        _index('{"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}}'), "twice"
    ),
    "index of too many entries": Case(
        _index({f"t{i}": "a.safetensors" for i in range(260_000)}), "more than 250000 values"
    ),
    "index that says where a tensor is not": Case(sharded(_swapped), "which it does not"),
    "tensor in two files": Case(sharded(_in_both), "in two weight files"),
    "tensor that the index does not name": Case(sharded(_unnamed), "does not name"),
    "index and whole file of two models": Case(
        both(
            sharded(lambda files, table: None),
            lambda folder: put(FILE, (folder / "a.safetensors").read_bytes())(folder),
        ),
        "two models",
    ),
    "only pickles": Case(both(gone(FILE), pickled("pytorch_model.bin")), "save_pretrained"),
    "nothing": Case(gone(FILE), "has no model.safetensors"),
}

THE_LARGEST_HEADER = Case(_many_tensors(62_000), "the weights hold 0 layers")
"""As many tensors as one header may list; only in the long tier."""

"""Folders that hold code, pipes, links, a million files, or folders where files should be."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from tests.hostile.spoiling import Case, both, code, gone, put


def _pipe(name: str) -> Any:
    return lambda folder: ((folder / name).unlink(missing_ok=True), os.mkfifo(folder / name))


def _socket(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{place}/tokenizer.json.sock")
    finally:
        os.close(place)


def _linked(name: str, target: str) -> Any:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return spoil


def _folder(name: str) -> Any:
    return both(gone(name), lambda folder: (folder / name).mkdir())


def _deep(folder: Path) -> None:
    (folder / "/".join("a" * 40)).mkdir(parents=True)


def _files(count: int) -> Any:
    def spoil(folder: Path) -> None:
        place = folder / "more"
        place.mkdir()
        for number in range(count):
            os.mknod(f"{place}/{number}")

    return spoil


def _sparse(name: str) -> Any:
    return both(put(name, ""), lambda folder: os.truncate(folder / name, 2**40))


FOLDER_CASES: dict[str, Case] = {
    "code beside the model": Case(code("modeling_evil.py"), "code file modeling_evil.py"),
    "code in capitals": Case(code("EVIL.PY"), "code file EVIL.PY"),
    "code in a folder": Case(code("sub/__init__.py"), "code file sub/__init__.py"),
    "compiled code": Case(put("evil.pyc", b"\0"), "code file evil.pyc"),
    "shared library": Case(put("kernels/evil.so", b"\x7fELF"), "code file kernels/evil.so"),
    "adapter": Case(put("adapter_config.json", "{}"), "adapter"),
    "pipe beside the model": Case(_pipe("notes"), "pipe"),
    "pipe for the config": Case(_pipe("config.json"), "has no config.json"),
    "pipe for the weights": Case(_pipe("model.safetensors"), "pipe"),
    "pipe for the tokenizer": Case(_pipe("tokenizer.json"), "pipe"),
    "socket": Case(_socket, "socket"),
    "device for the weights": Case(_linked("model.safetensors", "/dev/zero"), "device"),
    "link to a device": Case(_linked("tokenizer.json", "/dev/urandom"), "device"),
    "link out of the roots": Case(_linked("tokenizer.json", "/etc/passwd"), "link out of the folders"),
    "link by the parent": Case(
        _linked("tokenizer.json", "../../../../etc/passwd"), "link out of the folders"
    ),
    "folder linked out of the roots": Case(_linked("sub", "/etc"), "link out of the folders"),
    "link to nothing": Case(_linked("tokenizer.json", "none"), "link to nothing"),
    "link to itself": Case(_linked("tokenizer.json", "tokenizer.json"), "into itself"),
    "folder for the config": Case(_folder("config.json"), "has no config.json"),
    "folder for the weights": Case(_folder("model.safetensors"), "has no model.safetensors"),
    "no config": Case(gone("config.json"), "has no config.json"),
    "folders without end": Case(_deep, "16 deep"),
    "11,000 files": Case(_files(11_000), "more than 10000 files"),
    "tokenizer of a terabyte": Case(_sparse("tokenizer.json"), "at most 67108864 are taken"),
    "licence of a terabyte": Case(_sparse("LICENSE"), "at most 67108864 are taken"),
    "config of a terabyte": Case(_sparse("config.json"), "at most 4194304 are read"),
}

A_MILLION_FILES = Case(_files(1_000_000), "more than 10000 files")
"""Only in the long tier: making them takes longer than refusing them."""

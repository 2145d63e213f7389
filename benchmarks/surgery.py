"""Streamed removal from a made checkpoint of 4 GB in 4 shards: its peak memory, and its speed beside `cp`.

Each repeat times, one after the other, `trsp remove` as a process of its own, `cp` of the shards that it
wrote, and `cp` followed by `sync` of them, in each of their six orders in turn, since a disk that discards what
the one before wrote is slower for a while. Before each, everything is on the disk and the input is in the page
cache or, in the cold rows, not there. The limit of speed is held against `cp` and `sync`, since a removal does
not return before its bytes are on the disk either; plain `cp` with free memory only fills the page cache.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trsp_core.safetensors_file import Entry, write

RSS_LIMIT = 250 * 1000 * 1000
SPEED_LIMIT = 0.6
SHARDS = 4
REMOVED = (3, 7, 11, 12, 16, 21)
WIDTH, INNER, VOCABULARY, LAYERS = 2560, 6912, 32000, 25
LAYER = {
    **{f"self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"},
    **{f"mlp.{name}_proj.weight": (INNER, WIDTH) for name in ("gate", "up")},
    "mlp.down_proj.weight": (WIDTH, INNER),
    **{f"{name}_layernorm.weight": (WIDTH,) for name in ("input", "post_attention")},
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 20,
    "num_key_value_heads": 20,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the tensors of the made model."""
    layers = {f"model.layers.{i}.{name}": shape for i in range(LAYERS) for name, shape in LAYER.items()}
    return {"model.embed_tokens.weight": (VOCABULARY, WIDTH), **layers, "model.norm.weight": (WIDTH,)}


def make(folder: Path) -> None:
    """Write the checkpoint: random bytes, the same 16 MiB over and over."""
    folder.mkdir()
    block = random.Random(0).randbytes(16 * 1024 * 1024)
    entries = [Entry(name, "BF16", shape, ()) for name, shape in shapes().items()]
    share = sum(entry.bytes for entry in entries) / SHARDS
    shards: list[list[Entry]] = [[] for _ in range(SHARDS)]
    place = 0
    for entry in entries:
        filled = Entry(entry.name, entry.dtype, entry.shape, cut(block, entry.bytes))
        shards[int(place / share)].append(filled)
        place += entry.bytes
    names = [f"model-{i:05d}-of-{SHARDS:05d}.safetensors" for i in range(1, SHARDS + 1)]
    for name, shard in zip(names, shards, strict=True):
        list(write(folder / name, shard, {"format": "pt"}))
    table = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
    index = {"metadata": {"total_size": place}, "weight_map": table}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG))


def cut(block: bytes, size: int) -> Iterator[memoryview]:
    """Yield `size` bytes of repeated blocks."""
    for begin in range(0, size, len(block)):
        yield memoryview(block)[: min(len(block), size - begin)]


def weights(folder: Path) -> list[Path]:
    """Return a folder's shards."""
    return sorted(folder.glob("*.safetensors"))


def settle(files: list[Path], *, cold: bool) -> None:
    """Bring everything to the disk, and `files` into the page cache or out of it."""
    os.sync()
    for path in files:
        with path.open("rb", buffering=0) as file:
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while not cold and file.read(16 * 1024 * 1024):
                pass


def run(command: list[str]) -> tuple[float, int]:
    """Run a command to its end; return its seconds and its peak resident bytes.

    The kernel's figure includes this process at its fork, so nothing large may have been imported yet.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return seconds, usage.ru_maxrss * 1024


def contenders(place: Path) -> dict[str, tuple[Path, list[str]]]:
    """Return what is timed: folder of its input and command line."""
    source, kept, out = place / "source", place / "kept", place / "out"
    layers = ",".join(map(str, REMOVED))
    trsp = [sys.executable, "-m", "trsp_cli.main", "--json", "remove", str(source), "--layers", layers]
    copy = f"mkdir {out} && cp {kept}/*.safetensors {out}"
    return {
        "trsp remove": (source, [*trsp, "--out", str(out)]),
        "cp": (kept, ["sh", "-c", copy]),
        "cp and sync": (kept, ["sh", "-c", f"{copy} && sync {out}/*"]),
    }


def measure(place: Path, repeats: int, *, cold: bool) -> dict[str, list[tuple[float, int]]]:
    """Time the contenders in turns, in another order each time."""
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in contenders(place)}
    orders = itertools.cycle(itertools.permutations(contenders(place).items()))
    for order in itertools.islice(orders, repeats):
        for name, (folder, command) in order:
            settle(weights(folder), cold=cold)
            time.sleep(1)
            found[name].append(run(command))
            shutil.rmtree(place / "out")
    return found


def table(found: dict[str, list[tuple[float, int]]], kept: int) -> dict[str, Any]:
    """Return speeds, ratios of the medians and the largest peak."""
    middle = {name: statistics.median(seconds for seconds, _ in runs) for name, runs in found.items()}
    ours = middle["trsp remove"]
    return {
        "seconds": {name: [round(seconds, 2) for seconds, _ in runs] for name, runs in found.items()},
        "gb_per_second": {name: round(kept / seconds / 1e9, 2) for name, seconds in middle.items()},
        "of_cp": round(middle["cp"] / ours, 2),
        "of_cp_and_sync": round(middle["cp and sync"] / ours, 2),
        "peak_rss_bytes": max(peak for _, peak in found["trsp remove"]),
    }


def measured(place: Path, repeats: int) -> dict[str, Any]:
    """Make the checkpoint and a first result, which `cp` copies; return the figures."""
    make(place / "source")
    run(contenders(place)["trsp remove"][1])
    (place / "out").rename(place / "kept")
    kept = sum(path.stat().st_size for path in weights(place / "kept"))
    made = sum(path.stat().st_size for path in weights(place / "source"))
    rows = {name: table(measure(place, repeats, cold=name == "cold"), kept) for name in ("warm", "cold")}
    return {"checkpoint_bytes": made, "kept_bytes": kept, "repeats": repeats, "rows": rows}


def main() -> None:
    """Print the figures; exit code 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="where 11 GB may lie for a few minutes")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix=".surgery.") as name:
        result = measured(Path(name).absolute(), given.repeats)
    from machine import machine

    limits = {"peak_rss_bytes": RSS_LIMIT, "of_cp": SPEED_LIMIT}
    text = json.dumps({"machine": machine(), "limits": limits, **result}, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    rows = result["rows"].values()
    sys.exit(any(row["peak_rss_bytes"] > RSS_LIMIT or row["of_cp"] < SPEED_LIMIT for row in rows))


if __name__ == "__main__":
    main()

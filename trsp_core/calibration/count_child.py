"""Run as a process: count a text's tokens for a model. `python -m trsp_core.calibration.count_child REQUEST`.

REQUEST is a JSON file with `model`, `set`, `path`, `kind`, `size` and `cache_dir`, `roots`, `hub_enabled`; the
answer is one JSON line, `{"tokens", "characters", "whole"}` or `{"problems"}`. A process of its own, so that
whoever asks needs neither torch nor a tokenizer in its memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trsp_core.calibration.base import open_set
from trsp_core.calibration.windows import TokenCount, count_tokens
from trsp_core.checkpoint import load_tokenizer
from trsp_core.errors import InputRefused
from trsp_core.sets import parse_sets
from trsp_core.sources import SourcePolicy, UploadedText, materialize, resolve


def count(request: Mapping[str, Any]) -> TokenCount:
    """Count as the request says.

    Raises:
        InputRefused: If the model or the text cannot be read.
    """
    reference = parse_sets(request["set"], "/set", joined=False)[0]
    text = UploadedText(request["kind"], request["size"], Path(request["path"]))
    policy = SourcePolicy(
        hub_enabled=request["hub_enabled"],
        roots=tuple(map(Path, request["roots"])),
        cache_dir=Path(request["cache_dir"]),
        uploads={reference.argument or "": text},
    )
    tokenizer = load_tokenizer(materialize(resolve(request["model"], policy), policy))
    return count_tokens(open_set(reference, policy), tokenizer)


def main(arguments: list[str]) -> int:
    """Answer one request; 0 if it was counted, 2 if it was refused."""
    try:
        found = count(json.loads(Path(arguments[0]).read_bytes()))
    except InputRefused as error:
        sys.stdout.write(json.dumps({"problems": [item.to_dict() for item in error.problems]}) + "\n")
        return 2
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

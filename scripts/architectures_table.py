"""Prints the table of model types, supported or refused and why; `--write` puts it into docs/architectures.md."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from trsp_core.architectures import ARCHITECTURES, REFUSED, Architecture  # noqa: E402

PAGE = ROOT / "docs" / "architectures.md"
_ALIKE = Architecture("any").patterns
BEGIN, END = "<!-- table -->\n", "<!-- /table -->\n"


def table() -> str:
    """Return a Markdown table with one row a type, in alphabetical order."""
    rows = [f"| `{name}` | {_verdict(name)} |" for name in sorted({*ARCHITECTURES, *REFUSED})]
    head = f"{len(ARCHITECTURES)} types are supported, {len(REFUSED)} are refused.\n\n"
    return head + "\n".join(("| `model_type` | removal of layers |", "|-|-|", *rows)) + "\n"


def _verdict(name: str) -> str:
    if name in REFUSED:
        return f"refused: {REFUSED[name]}"
    record = ARCHITECTURES[name]
    notes = [pattern.told for pattern in record.patterns if record.patterns != _ALIKE]
    notes += [f"refused where `{item.key}` is set: {item.reason}" for item in record.forbidden]
    notes += ["no refit"] if _never_refits(record) else []
    notes += ["gates on whole layers only"] if record.updates({}) is None else []
    return "; ".join(["supported", *dict.fromkeys(notes)])


def _never_refits(record: Architecture) -> bool:
    return record.mlp_output is None or not record.mlp_output_joins


def written(text: str) -> str:
    """Return the page's text with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(written(PAGE.read_text()))
    else:
        sys.stdout.write(table())

"""Prints the source tree with the first line of each module's docstring; `--write` puts it into the README."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("trsp_core", "trsp_jobs", "api", "worker", "trsp_cli", "migrations")
BEGIN, END = "<!-- tree -->\n", "<!-- /tree -->\n"


def tree() -> str:
    """Return the tree as text: one line a file, packages in the order of the house."""
    lines = []
    for package in PACKAGES:
        lines.append(f"{package}/  {_summary(ROOT / package / '__init__.py')}".rstrip())
        lines += _folder(ROOT / package, 1)
    return "\n".join(lines) + "\n"


def _folder(folder: Path, depth: int) -> list[str]:
    lines = []
    for path in sorted(folder.iterdir(), key=lambda item: (item.is_dir(), item.name)):
        if path.is_dir() and (path / "__init__.py").exists():
            lines.append("  " * depth + f"{path.name}/  {_summary(path / '__init__.py')}")
            lines += _folder(path, depth + 1)
        elif path.suffix == ".py" and path.name != "__init__.py":
            lines.append("  " * depth + f"{path.name:<22} {_summary(path)}".rstrip())
    return lines


def _summary(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text())) if file.exists() else None
    return (docstring or "").partition("\n")[0]


def written(text: str) -> str:
    """Return the README's text with the tree between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}```\n{tree()}```\n{END}{after}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    if "--write" in sys.argv:
        readme.write_text(written(readme.read_text()))
    else:
        sys.stdout.write(tree())

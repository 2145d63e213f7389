"""Rules of the repository that no single module can keep."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("trsp_core", "trsp_jobs", "api", "worker", "trsp_cli", "migrations")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_LINES = 450
HOME = re.compile(r"/(?:home|Users|root)/[a-z]")
USED_THROUGH = {"numpy": r"\.numpy\(\)"}
"""Dependencies that another library's method needs, and that method."""


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


@pytest.mark.parametrize(
    ("script", "page"), [("readme_tree", "README.md"), ("settings_table", "docs/service.md")]
)
def test_a_page_shows_what_is_there(script: str, page: str) -> None:
    spec = importlib.util.spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / page).read_text()
    assert module.written(text) == text, f"run: python scripts/{script}.py --write"


def test_no_source_file_is_too_long() -> None:
    long = {
        str(path): count for path in SOURCES if (count := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path)
        for path in SOURCES
        if path.read_text() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_no_file_names_somebodys_home() -> None:
    found = []
    for path in tracked():
        if path.is_file():
            text = path.read_bytes().decode(errors="ignore")
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in HOME.finditer(text)]
    assert found == []


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.split(r"[\[<>=~! ]", item)[0].replace("-", "_") for item in project["dependencies"]]


@pytest.mark.parametrize("name", dependencies())
def test_every_dependency_is_used(name: str) -> None:
    wanted = USED_THROUGH.get(name, rf"^\s*(?:import|from) {name}\b")
    assert any(re.search(wanted, path.read_text(), re.MULTILINE) for path in SOURCES)


@pytest.mark.parametrize("modules", ["trsp_core, trsp_cli.main", "trsp_jobs.service, trsp_core.preflight"])
def test_torch_stays_away_until_there_is_work(modules: str) -> None:
    code = (
        f"import sys, {modules}; sys.exit(' '.join({{'torch', 'transformers'}} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

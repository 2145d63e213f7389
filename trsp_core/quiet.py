"""Keeps libraries from writing to the terminal while the core works; the core reports itself."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from transformers.utils import logging as library


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Show neither progress bars nor warnings of transformers within the block."""
    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity(logging.ERROR)
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def quiet_logger(name: str) -> Iterator[None]:
    """Show only errors of the loggers under `name` within the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)

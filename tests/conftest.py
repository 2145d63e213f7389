"""Fixtures for the whole suite: real servers, and threads that do not fight over the cores."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="trsp-run-"))
Path(os.environ["XDG_RUNTIME_DIR"]).chmod(0o700)

pytest_plugins = ["tests.servers"]

"""`python -m api.write_openapi`: write openapi.json; a test compares it with what is served."""

from __future__ import annotations

import json
from pathlib import Path

from api.main import bare_app
from api.openapi import document

OPENAPI_PATH = Path(__file__).resolve().parent.parent / "openapi.json"


def text() -> str:
    """Return the document as it is committed; no service has to run for it."""
    return json.dumps(document(bare_app()), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OPENAPI_PATH.write_text(text(), encoding="utf-8")

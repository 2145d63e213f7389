"""The application on a real port."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from api.__main__ import Server, configured
from api.main import create_app
from tests.api.conftest import Api
from tests.servers import free_port
from trsp_cli.transport import read_events


def read_sse(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a text/event-stream with JSON data: yield each event's name and data."""
    return ((name, data) for _, name, data in read_events(lines))


@contextmanager
def served(api: Api) -> Iterator[tuple[str, Server, threading.Thread]]:
    """Serve the application on a port, for streams that are read while they are written."""
    port = free_port()
    settings = api.services.settings.model_copy(update={"port": port})
    server = Server(configured(create_app(settings, api.services), settings), api.services)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", server, thread
    finally:
        server.handle_exit(15, None)
        thread.join(15)
        assert not thread.is_alive()

"""The application on a real port."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from api.__main__ import Server
from api.main import create_app
from tests.api.conftest import Api
from tests.servers import free_port


@contextmanager
def served(api: Api) -> Iterator[tuple[str, Server, threading.Thread]]:
    """Serve the application on a port, for streams that are read while they are written."""
    port = free_port()
    app = create_app(api.services.settings, api.services)
    server = Server(
        uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=10), api.services
    )
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

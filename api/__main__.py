"""`python -m api`: serve with the settings of the environment."""

from __future__ import annotations

import resource
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.connections import bounded
from api.deps import MissingKey, Services
from api.main import create_app
from trsp_jobs import logging
from trsp_jobs.settings import Settings

SHUTDOWN_SECONDS = 10
KEEP_ALIVE_SECONDS = 5
"""How long a connection without a request is kept."""
HEAD_BYTES = 32 * 1024
"""Largest head of a request."""
OTHER_FILES = 256
"""Files that the process opens beside its clients' connections."""


class Server(uvicorn.Server):
    """Tells open event streams to end as soon as the server is told to stop; else it would wait for them."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take the signal and tell the streams."""
        self._services.stopping.set()
        super().handle_exit(sig, frame)


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    settings = Settings()  # type: ignore[call-arg]  # from the environment
    logging.configure(settings, "api")
    try:
        app = create_app(settings)
    except MissingKey as error:
        sys.stderr.write(f"{error}\n")
        return 2
    allow_files(settings.connection_limit)
    Server(configured(app, settings), app.state.services).run()
    return 0


def configured(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how the application is served: where, and with bounds on what a connection may cost."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=bounded(settings.connection_limit),
        ws="none",
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES,
        server_header=False,
        access_log=False,
    )


def allow_files(connections: int) -> None:
    """Let the process open as many files as its connections need, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (bound, hard))


if __name__ == "__main__":
    raise SystemExit(main())

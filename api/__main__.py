"""`python -m api`: serve with the settings of the environment."""

from __future__ import annotations

import sys
from types import FrameType

import uvicorn

from api.deps import MissingKey, Services
from api.main import create_app
from trsp_jobs import logging
from trsp_jobs.settings import Settings

SHUTDOWN_SECONDS = 10


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
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
        access_log=False,
    )
    Server(config, app.state.services).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

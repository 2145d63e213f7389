"""Logs as JSON lines (or for a terminal), the same in the API, the workers and housekeeping."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import Processor

from trsp_jobs.settings import Settings

_QUIET = ("alembic", "kombu", "amqp", "celery.bootsteps", "httpx")


def configure(settings: Settings, component: str) -> None:
    """Send this process's logs to stderr, with what `structlog.contextvars` knows on every line.

    Loggers of the standard library go the same way. May be called again, with the same effect.

    Args:
        settings: Level and form.
        component: Name of the process: `api`, `worker`, `housekeeping`.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _naming(component),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_renderers(settings))
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _naming(component: str) -> Processor:
    def add(_: Any, __: str, event: Any) -> Any:
        event["component"] = component
        return event

    return add


def _renderers(settings: Settings) -> list[Processor]:
    """Return how lines look. Tracebacks come without local variables, among which are keys and whole requests."""
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    if console:
        plain = structlog.dev.plain_traceback
        return [strip, structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    return [strip, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]

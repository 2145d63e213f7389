"""Connections of clients that are slow on purpose, or too many: told so once, and closed.

uvicorn waits for a request's head, and for a client to read its answer, as long as the client likes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.errors import ApiError, problem_response

HEAD_SECONDS = 10.0
"""Longest from a connection's beginning, or from the first byte of a further request, to the end of its head."""
STALL_SECONDS = 60.0
"""Longest that a client may read nothing of an answer that waits for it."""


class BoundedProtocol(H11Protocol):
    """HTTP over one connection, which ends when its client takes too long, or when there are too many."""

    head_seconds = HEAD_SECONDS
    stall_seconds = STALL_SECONDS
    limit: int | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or turn it away where there are as many as are served."""
        super().connection_made(transport)
        if self.limit is not None and len(self.connections) > self.limit:
            self.refuse(ApiError("unavailable", f"There are {self.limit} connections; no more are served."))
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take what came; until a request's head is whole, its time runs."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        else:
            self._cancel_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the times."""
        self._cancel_head()
        self._cancel_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        self._stall = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self._cancel_stall()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem, like everything else."""
        self.refuse(ApiError("bad-request", msg))

    def refuse(self, error: ApiError) -> None:
        """Send a problem in the place of any answer, and close."""
        answer = problem_response(error, {"path": "", "type": "http"})
        headers = [*answer.raw_headers, (b"connection", b"close")]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            events = (
                h11.Response(status_code=answer.status_code, headers=headers),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _await_head(self) -> None:
        if self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self.refuse(
            ApiError("request-timeout", f"No whole request came within {self.head_seconds:g} seconds.")
        )

    def _cancel_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def bounded(limit: int) -> type[BoundedProtocol]:
    """Return the protocol of a server that serves at most `limit` connections at a time."""
    return type("LimitedProtocol", (BoundedProtocol,), {"limit": limit})

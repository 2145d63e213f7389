"""The bodies of requests: bounded in bytes and in the time that a client takes to send them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, send_problem

PATIENCE_SECONDS = 20.0
"""What a client may take for any body, even an empty one."""
SLOWEST = 16 * 1024
"""Bytes a second that a body must come with beyond that; what the server itself takes is not counted."""


class BodyLimit:
    """Refuses bodies over a number of bytes, by their announced length or as they arrive, and those that trickle.

    Args:
        limit: Largest body, bytes.
        larger: Other limits for single paths.
        patience: Seconds for any body.
        slowest: Bytes a second beyond that.
    """

    def __init__(
        self,
        app: ASGIApp,
        limit: int,
        larger: Mapping[str, int],
        patience: float = PATIENCE_SECONDS,
        slowest: float = SLOWEST,
    ) -> None:
        self.app = app
        self.limit = limit
        self.larger = larger
        self.patience = patience
        self.slowest = slowest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its bytes and its client's time counted."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.larger.get(scope["path"], self.limit)
        body = Body(Headers(scope=scope), receive, send, limit, self.patience, self.slowest)
        if body.announced > limit:
            await send_problem(too_large(limit), scope, body.receive, body.send)
            return
        await self.app(scope, body.receive, body.send)


class Body:
    """One request's body on its way in. An answer that leaves some of it unread ends the connection."""

    def __init__(
        self, headers: Headers, receive: Receive, send: Send, limit: int, patience: float, slowest: float
    ) -> None:
        announced = headers.get("content-length", "0")
        self.announced = int(announced) if announced.isascii() and announced.isdigit() else 0
        self._unread = self.announced > 0 or "transfer-encoding" in headers
        self._receive, self._send = receive, send
        self._limit, self._patience, self._slowest = limit, patience, slowest
        self._seen, self._waited = 0, 0.0

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            ApiError: If the body is too large (413) or comes too slowly (408).
        """
        if not self._unread:
            return await self._receive()
        message = await self._in_time()
        self._seen += len(message.get("body", b""))
        self._unread = bool(message.get("more_body", False))
        if self._seen > self._limit:
            self._unread = True
            raise too_large(self._limit)
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the answer."""
        if message["type"] == "http.response.start" and self._unread:
            MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)

    async def _in_time(self) -> Message:
        begun, left = time.monotonic(), self._patience + self._seen / self._slowest - self._waited
        try:
            async with asyncio.timeout(left):
                return await self._receive()
        except TimeoutError as error:
            detail = f"{self._seen} bytes of the body came in {self._waited + left:.0f} seconds."
            raise ApiError("request-timeout", detail) from error
        finally:
            self._waited += time.monotonic() - begun


def too_large(limit: int) -> ApiError:
    """Return the error for a body over a limit, bytes."""
    return ApiError("too-large", f"The body is larger than {limit} bytes.")

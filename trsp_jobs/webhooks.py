"""Signing a webhook and sending it once, by the Standard Webhooks specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpcore
from standardwebhooks import Webhook as Signer

from trsp_jobs.errors import AddressRefused
from trsp_jobs.webhook_addresses import Guarded

SEND_SECONDS = 15.0
"""Most that one try may take, the answer included."""
_ANSWER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: the same id and body at every try, signed under each of the secrets."""

    id: str
    url: str
    body: Mapping[str, Any]
    secrets: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a try: the receiver's HTTP status (None if it did not answer) and what went wrong."""

    status: int | None
    error: str = ""

    @property
    def taken(self) -> bool:
        """The receiver has it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """The receiver wants nothing any more."""
        return self.status == 410


def secret_of(secret: str, webhook_id: str, generation: int) -> str:
    """Return a webhook's secret as its receiver needs it, `whsec_…`.

    It follows from the server's secret and is stored nowhere.

    Args:
        secret: The server's.
        webhook_id: The webhook.
        generation: Which of its secrets.
    """
    text = f"webhook:{webhook_id}:{generation}".encode()
    return "whsec_" + base64.b64encode(hmac.digest(secret.encode(), text, hashlib.sha256)).decode()


def headers_of(message: Message, body: str, moment: datetime) -> Sequence[tuple[str, str]]:
    """Return the headers of a try; every secret in force signs it."""
    signatures = [Signer(secret).sign(message.id, moment, body) for secret in message.secrets]
    return (
        ("content-type", "application/json"),
        ("user-agent", "trsp-webhooks"),
        ("webhook-id", message.id),
        ("webhook-timestamp", str(int(moment.timestamp()))),
        ("webhook-signature", " ".join(signatures)),
    )


def send(message: Message, *, allow_private: bool, seconds: float = SEND_SECONDS) -> Answer:
    """Send a message once: to a public address, without following redirects, within a bounded time.

    Args:
        message: What is sent.
        allow_private: Whether it may go to an address that is not public.
        seconds: Most that it may take.
    """
    body = json.dumps(message.body, separators=(",", ":"))
    headers = headers_of(message, body, datetime.now(UTC))
    guarded = Guarded(seconds, allow_private=allow_private)
    try:
        with (
            httpcore.ConnectionPool(ssl.create_default_context(), network_backend=guarded) as pool,
            pool.stream("POST", message.url, headers=headers, content=body.encode()) as response,
        ):
            return _judge(response)
    except AddressRefused as error:
        return Answer(None, str(error))
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
        return Answer(None, f"did not answer: {str(error) or type(error).__name__}")


def _judge(response: httpcore.Response) -> Answer:
    if 200 <= response.status < 300:
        return Answer(response.status)
    text = b""
    for piece in response.iter_stream():
        text += piece
        if len(text) >= _ANSWER_BYTES:
            break
    said = text[:200].decode("utf-8", "replace").replace("\0", "")
    return Answer(response.status, f"answered {response.status}: {said}")

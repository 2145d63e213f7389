"""The client's calls for keys, usage, audit and webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from trsp_cli.transport import Json, Transport

Rows = list[Json]


class AccessCalls:
    """Calls that a client adds to those for jobs; what goes over the wire is the client's."""

    _transport: Transport

    def create_key(self, name: str, **wanted: Any) -> Json:
        """Make a key; its text is the answer's `key`, this once.

        It is sent once only: an answer that is lost cannot be given again. Revoke what `keys` then shows.

        Args:
            name: What it is for.
            **wanted: Any of `owner`, `scopes`, `expires_at`, `max_queued`, `max_running`, `max_stored_bytes`.
        """
        return self._transport.json("POST", "/v1/keys", json={"name": name, **_given(wanted)})

    def keys(self) -> Rows:
        """Return the keys, newest first, those that have ended among them."""
        return list(self._transport.json("GET", "/v1/keys")["items"])

    def key(self, key_id: str) -> Json:
        """Return a key, without its text."""
        return self._transport.json("GET", _path("keys", key_id))

    def revoke_key(self, key_id: str) -> None:
        """End a key at once; doing it again changes nothing."""
        self._transport.send("DELETE", _path("keys", key_id))

    def usage(self) -> Rows:
        """Return what each key has used."""
        return list(self._transport.json("GET", "/v1/usage")["items"])

    def audit(self, **filters: Any) -> Json:
        """Return one page of changes, newest first: `items` and `next_cursor`.

        Args:
            **filters: Any of `after`, `subject`, `limit`.
        """
        return self._transport.json("GET", "/v1/audit", params=_given(filters))

    def create_webhook(
        self, url: str, *, events: Sequence[str] | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Have events sent to an address; the answer's `secret` verifies them.

        Args:
            url: Where to.
            events: Kinds of event; the ends of jobs unless given, none for only the jobs that name it.
            idempotency_key: That of `Client.submit`.
        """
        body: Json = {"url": url} | ({} if events is None else {"events": list(events)})
        return self._transport.once("/v1/webhooks", key=idempotency_key, json=body)

    def webhooks(self) -> Rows:
        """Return the webhooks, newest first."""
        return list(self._transport.json("GET", "/v1/webhooks")["items"])

    def webhook(self, webhook_id: str) -> Json:
        """Return a webhook, without its secret."""
        return self._transport.json("GET", _path("webhooks", webhook_id))

    def delete_webhook(self, webhook_id: str) -> None:
        """Remove a webhook with its deliveries."""
        self._transport.send("DELETE", _path("webhooks", webhook_id))

    def rotate_webhook_secret(self, webhook_id: str) -> Json:
        """Give a webhook a new `secret`; the one before signs as well for a day."""
        return self._transport.json("POST", _path("webhooks", webhook_id, "rotate-secret"))

    def deliveries(self, webhook_id: str, **filters: Any) -> Json:
        """Return one page of a webhook's deliveries, newest first: `items` and `next_cursor`.

        Args:
            webhook_id: The webhook.
            **filters: Any of `after`, `status`, `limit`.
        """
        return self._transport.json(
            "GET", _path("webhooks", webhook_id, "deliveries"), params=_given(filters)
        )

    def redeliver(self, webhook_id: str, delivery_id: str) -> Json:
        """Send a delivery again under its id."""
        return self._transport.json(
            "POST", _path("webhooks", webhook_id, "deliveries", delivery_id, "redeliver")
        )


def _given(values: Json) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _path(*parts: str) -> str:
    return "/".join(["/v1", *(quote(part, safe="") for part in parts)])

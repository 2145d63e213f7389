"""What a request says of webhooks, checked before anything is stored."""

from __future__ import annotations

import re

from sqlalchemy.orm import Session

from api.errors import invalid_request
from trsp_core.errors import InvalidSpec, Problem
from trsp_jobs import service
from trsp_jobs.callers import Caller
from trsp_jobs.errors import AddressRefused, WebhookNotFound
from trsp_jobs.webhook_addresses import checked_url

WEBHOOK_ID = re.compile(r"wh_[0-9a-z]{26}")


def own_webhook(session: Session, webhook_id: str | None, caller: Caller) -> str | None:
    """Return the webhook that a job names; it must be one of the caller's.

    Raises:
        InvalidSpec: If it is not.
    """
    if webhook_id is None:
        return None
    try:
        if WEBHOOK_ID.fullmatch(webhook_id):
            return service.get_webhook(session, webhook_id, caller).id
    except WebhookNotFound:
        pass
    message = f"is {webhook_id[:80]!r}, which is none of your webhooks; GET /v1/webhooks lists them."
    raise InvalidSpec(Problem("/webhook", message, webhook_id[:80]))


def usable_url(url: str, *, allow_private: bool) -> str:
    """Return a webhook's address in its plain form.

    Raises:
        ApiError: If nothing is sent there, with the reason (422).
    """
    try:
        return checked_url(url, allow_private=allow_private)
    except AddressRefused as error:
        allowed = "https://HOST/PATH on the public internet"
        raise invalid_request(Problem("/url", f"{error}.", url[:200], allowed)) from error

"""Webhooks: create, list, show, delete; their deliveries and secrets."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from api.deps import CallerDep, JsonBody, Services, ServicesDep
from api.idempotency import REPLAYED, Answer, OnceKey, earlier, once
from api.webhook_fields import WEBHOOK_ID, usable_url
from api.webhook_schemas import (
    DeliveryOut,
    DeliveryPage,
    WebhookBody,
    WebhookList,
    WebhookOut,
    WebhookSecretOut,
)
from trsp_jobs import service
from trsp_jobs.callers import Caller
from trsp_jobs.errors import WebhookNotFound
from trsp_jobs.webhook_models import FIRST_GENERATION, Webhook
from trsp_jobs.webhooks import secret_of

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

_DELIVERY = r"msg_[0-9a-z]{26}"


def check_webhook_id(webhook_id: Annotated[str, Path(description="The webhook's id, `wh_…`.")]) -> str:
    """Return the id; one that no webhook can have is no webhook's."""
    if not WEBHOOK_ID.fullmatch(webhook_id):
        raise WebhookNotFound(f"there is no webhook {webhook_id[:80]!r}")
    return webhook_id


def check_delivery_id(delivery_id: Annotated[str, Path(description="The delivery's id, `msg_…`.")]) -> str:
    """Return the id; one that no delivery can have is no delivery's."""
    if not re.fullmatch(_DELIVERY, delivery_id):
        raise WebhookNotFound(f"there is no delivery {delivery_id[:80]!r}")
    return delivery_id


WebhookId = Annotated[str, Depends(check_webhook_id)]
DeliveryId = Annotated[str, Depends(check_delivery_id)]


@router.post(
    "",
    status_code=201,
    response_model=WebhookSecretOut,
    dependencies=[JsonBody],
    summary="Create a webhook",
)
def create(body: WebhookBody, services: ServicesDep, caller: CallerDep, keyed: OnceKey) -> Response:
    """Have events of your jobs sent to an address, signed by the Standard Webhooks specification.

    The address must be public; it is looked at again at every sending. A delivery that fails is tried again
    over a day and comes with the same `webhook-id`: it may come twice, and in another order.
    """
    answer = earlier(services, keyed) or _create(services, caller, keyed, body)
    return _add_secret(services, answer)


def _create(services: Services, caller: Caller, keyed: OnceKey, body: WebhookBody) -> JSONResponse:
    url = usable_url(body.url, allow_private=services.settings.webhook_allow_private)

    def work(session: Session) -> Answer:
        row = service.create_webhook(session, caller, url, body.events)
        session.refresh(row)
        shown = WebhookOut.model_validate(row).model_dump(mode="json")
        return Answer(201, shown, f"/v1/webhooks/{row.id}")

    return once(services, keyed, work)


def _add_secret(services: Services, answer: JSONResponse) -> JSONResponse:
    """Return the answer with the secret of a new webhook, which is not stored but follows from its id."""
    body = json.loads(bytes(answer.body))
    secret = secret_of(services.secret, body["id"], FIRST_GENERATION)
    kept = {name: answer.headers[name] for name in ("location", REPLAYED) if name in answer.headers}
    return JSONResponse({**body, "secret": secret}, answer.status_code, {**kept, "Cache-Control": "no-store"})


@router.get("", summary="List the webhooks")
def list_webhooks(services: ServicesDep, caller: CallerDep) -> WebhookList:
    """Return your webhooks, newest first."""
    with services.session() as session:
        rows = service.list_webhooks(session, caller)
        return WebhookList(items=[WebhookOut.model_validate(row) for row in rows])


@router.get("/{webhook_id}", summary="Show a webhook")
def show(webhook_id: WebhookId, services: ServicesDep, caller: CallerDep) -> WebhookOut:
    """Return a webhook, without its secret."""
    with services.session() as session:
        return WebhookOut.model_validate(service.get_webhook(session, webhook_id, caller))


@router.delete("/{webhook_id}", status_code=204, summary="Delete a webhook")
def delete(webhook_id: WebhookId, services: ServicesDep, caller: CallerDep) -> None:
    """Remove a webhook with its deliveries; jobs that name it go on without."""
    with services.session() as session:
        service.delete_webhook(session, webhook_id, caller)


@router.post("/{webhook_id}/rotate-secret", summary="Give a webhook a new secret")
def rotate_secret(
    webhook_id: WebhookId, services: ServicesDep, caller: CallerDep, response: Response
) -> WebhookSecretOut:
    """Return the new secret. The one before signs every delivery as well for a day more."""
    response.headers["Cache-Control"] = "no-store"
    with services.session() as session:
        return _with_secret(services, service.rotate_secret(session, webhook_id, caller))


@router.get("/{webhook_id}/deliveries", summary="List a webhook's deliveries")
def deliveries(
    webhook_id: WebhookId,
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[str | None, Query(pattern=f"^{_DELIVERY}$")] = None,
    status: Annotated[Literal["pending", "delivered", "failed"] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> DeliveryPage:
    """Return what was or is to be sent, newest first; what ended is kept for 30 days."""
    with services.session() as session:
        rows = service.list_deliveries(
            session, webhook_id, caller, after=after, status=status, limit=limit + 1
        )
        items = [DeliveryOut.model_validate(row) for row in rows[:limit]]
    return DeliveryPage(items=items, next_cursor=items[-1].id if len(rows) > limit else None)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver", status_code=202, summary="Send a delivery again"
)
def redeliver(
    webhook_id: WebhookId, delivery_id: DeliveryId, services: ServicesDep, caller: CallerDep
) -> DeliveryOut:
    """Send it again soon, under its `webhook-id`; one that is disabled is tried again."""
    with services.session() as session:
        return DeliveryOut.model_validate(service.redeliver(session, webhook_id, delivery_id, caller))


def _with_secret(services: Services, row: Webhook) -> WebhookSecretOut:
    return WebhookSecretOut.of(row, secret_of(services.secret, row.id, row.generation))

"""Registered models: checked once, pinned, named."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from sqlalchemy.orm import Session

from api.deps import CallerDep, JsonBody, Services, ServicesDep, refuse_foreign
from api.idempotency import Answer, OnceKey, earlier, once
from api.input_schemas import ModelOut, ModelPage, ModelRequest
from trsp_jobs.callers import Caller
from trsp_jobs.errors import ResourceNotFound
from trsp_jobs.inputs import registered_models
from trsp_jobs.inputs.registered_models import MODEL_NAME
from trsp_jobs.settings import source_policy

KIND = "registered model"

router = APIRouter(prefix="/v1/models", tags=["models"])

Name = Annotated[str, Path(description="The name under which it is registered.")]


def check_model_name(name: Name) -> str:
    """Return the name; one that no model can have is no model's."""
    if not MODEL_NAME.fullmatch(name):
        raise ResourceNotFound(KIND, name[:80])
    return name


ModelName = Annotated[str, Depends(check_model_name)]


def check_own_model(name: ModelName, caller: CallerDep, services: ServicesDep) -> str:
    """Return the name; one that is somebody else's model's is no model's."""
    refuse_foreign(services, caller, KIND, name, lambda session: registered_models.get_model(session, name))
    return name


OwnModelName = Annotated[str, Depends(check_own_model)]


@router.post(
    "",
    status_code=201,
    response_model=ModelOut,
    dependencies=[JsonBody],
    summary="Register a model",
)
def register(body: ModelRequest, services: ServicesDep, caller: CallerDep, keyed: OnceKey) -> Response:
    """Find the model, judge it by its config and headers, and pin what was found under a name."""
    return earlier(services, keyed) or _register(services, caller, keyed, body)


def _register(services: Services, caller: Caller, keyed: OnceKey, body: ModelRequest) -> Response:
    found = registered_models.check_model(body.model, source_policy(services.settings))

    def work(session: Session) -> Answer:
        row = registered_models.register(session, caller.owner, body.name, found)
        shown = ModelOut.model_validate(row).model_dump(mode="json")
        return Answer(201, shown, f"/v1/models/{row.name}")

    return once(services, keyed, work)


@router.get("", summary="List registered models")
def list_models(
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", pattern=f"^{MODEL_NAME.pattern}$")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ModelPage:
    """Return one page, by name."""
    with services.session() as session:
        page = registered_models.list_models(session, after=after, limit=limit, owners=caller.shared_owners)
        items = [ModelOut.model_validate(row) for row in page.items]
    return ModelPage(items=items, next_cursor=page.next_cursor)


@router.get("/{name}", summary="Show a registered model")
def show(name: ModelName, services: ServicesDep, caller: CallerDep) -> ModelOut:
    """Return what was found when it was registered: one's own, or the operator's, which are for all."""
    with services.session() as session:
        row = registered_models.get_model(session, name)
    if caller.shared_owners is not None and row.owner not in caller.shared_owners:
        raise ResourceNotFound(KIND, name)
    return ModelOut.model_validate(row)


@router.delete("/{name}", status_code=204, summary="Forget a registered model")
def delete(name: OwnModelName, services: ServicesDep) -> Response:
    """Forget the name; jobs that were made with it are not touched."""
    with services.session() as session:
        registered_models.delete_model(session, name)
    return Response(status_code=204)

"""Registered models: checked once, pinned, named."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from api.deps import JsonBody, OwnerDep, ServicesDep
from api.input_schemas import ModelOut, ModelPage, ModelRequest
from trsp_jobs.errors import ResourceNotFound
from trsp_jobs.inputs import registered_models
from trsp_jobs.inputs.registered_models import MODEL_NAME
from trsp_jobs.settings import source_policy

router = APIRouter(prefix="/v1/models", tags=["models"])

ModelName = Annotated[str, Path(description="The name under which it is registered.")]


@router.post("", status_code=201, dependencies=[JsonBody], summary="Register a model")
def register(body: ModelRequest, services: ServicesDep, owner: OwnerDep, response: Response) -> ModelOut:
    """Find the model, judge it by its config and headers, and pin what was found under a name."""
    found = registered_models.check_model(body.model, source_policy(services.settings))
    with services.session() as session:
        row = registered_models.register(session, owner, body.name, found)
    response.headers["Location"] = f"/v1/models/{row.name}"
    return ModelOut.model_validate(row)


@router.get("", summary="List registered models")
def list_models(
    services: ServicesDep,
    after: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", pattern=f"^{MODEL_NAME.pattern}$")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ModelPage:
    """Return one page, by name."""
    with services.session() as session:
        page = registered_models.list_models(session, after=after, limit=limit)
        items = [ModelOut.model_validate(row) for row in page.items]
    return ModelPage(items=items, next_cursor=page.next_cursor)


@router.get("/{name}", summary="Show a registered model")
def show(name: ModelName, services: ServicesDep) -> ModelOut:
    """Return what was found when it was registered."""
    with services.session() as session:
        return ModelOut.model_validate(registered_models.get_model(session, _checked(name)))


@router.delete("/{name}", status_code=204, summary="Forget a registered model")
def delete(name: ModelName, services: ServicesDep) -> Response:
    """Forget the name; jobs that were made with it are not touched."""
    with services.session() as session:
        registered_models.delete_model(session, _checked(name))
    return Response(status_code=204)


def _checked(name: str) -> str:
    if not MODEL_NAME.fullmatch(name):
        raise ResourceNotFound("registered model", name[:80])
    return name

"""Query parameters: what an address does not know is refused, with what was probably meant; so are NULs."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.errors import invalid_request
from trsp_core.errors import Problem, closest


async def refuse_unknown(request: Request) -> None:
    """Refuse a misspelt parameter: a filter that is passed over would show what was not asked for.

    A NUL is refused everywhere, since the database holds none.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = tuple(_names(route.dependant))
    problems = [_unknown(name, known) for name in request.query_params if name not in known]
    problems += [_nul(name) for name, text in request.query_params.multi_items() if "\0" in text]
    if problems:
        raise invalid_request(*problems)


def _names(dependant: Dependant) -> Iterator[str]:
    """Return the parameters of a route and of all that it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for needed in dependant.dependencies:
        yield from _names(needed)


def _unknown(name: str, known: tuple[str, ...]) -> Problem:
    said = f"known are {', '.join(known)}" if known else "this address takes none"
    message = f"is no parameter of this address; {said}."
    return Problem(f"/query/{name[:80]}", message, None, known, closest(name, known))


def _nul(name: str) -> Problem:
    return Problem(f"/query/{name[:80]}", "holds a NUL character; leave it out.", None, "text without NUL")


KNOWN_QUERY = Depends(refuse_unknown)

"""Every route refuses what it does not know in a query, and a NUL in what it knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api.dashboard import login
from api.dashboard import routes as dashboard
from api.write_openapi import text
from tests.api.conftest import Api
from tests.api.test_access import address

__all__ = ["address"]

PATHS = json.loads(text())["paths"]
PAGES = [route for router in (dashboard.router, login.router) for route in router.routes]
ROUTES = [(method.upper(), path) for path, item in PATHS.items() for method in item] + [
    (method, page.path) for page in PAGES if isinstance(page, APIRoute) for method in page.methods
]
KNOWN = [
    (method.upper(), path, parameter["name"])
    for path, item in PATHS.items()
    for method, operation in item.items()
    for parameter in operation.get("parameters", ())
    if parameter["in"] == "query"
]


def problems(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [problem["pointer"] for problem in answer.json()["errors"]]


def test_an_unknown_parameter_is_refused_by_every_route(address: tuple[Api, Callable[[str], str]]) -> None:
    api, fill = address
    assert len(ROUTES) > 60
    for method, path in ROUTES:
        place = fill(path.replace("{slug}", "not-found"))
        answer = api.client.request(method, f"{place}?limti=1", follow_redirects=False)
        assert "/query/limti" in problems(answer), (method, path)


@pytest.mark.parametrize("place", ["", "before "])
def test_a_nul_is_refused_in_every_parameter(place: str, address: tuple[Api, Callable[[str], str]]) -> None:
    api, fill = address
    assert len(KNOWN) > 30
    for method, path, name in KNOWN:
        answer = api.client.request(method, fill(path), params={name: f"{place}\0"})
        assert f"/query/{name}" in problems(answer), (method, path, name)


def test_a_slash_too_many_is_another_address(api: Api, tmp_path: Path) -> None:
    answer = api.client.get("/v1/jobs/", follow_redirects=False)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")

"""Every operation under generated requests: no server error, and no answer that the document does not tell."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from structlog.testing import capture_logs

from api.write_openapi import text
from tests.api.conftest import BEARER, Api
from tests.api.fuzz.spoiling import WORDS, odd_headers, spoiled
from tests.api.fuzz.target import Target, target, to_json

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SECONDS = 30
"""Longest that an answer may take."""
FEW = 5
"""Examples of each operation in the quick run."""
MANY = 175
"""Examples of each operation in the long run, which must come to LEAST in all."""
LEAST = 10_000
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@st.composite
def requests_to(draw: st.DrawFn, operation: Any, aim: Target) -> Any:
    """Draw a request: by the schema, against it, or right but for one hostile value; mostly at what is there."""
    name = operation.definition.raw["operationId"]
    case = draw(st.sampled_from([operation.as_strategy(mode) for mode in MODES]).flatmap(lambda found: found))
    for parameter in case.path_parameters or {}:
        if draw(st.integers(0, 9)) < 7:
            case.path_parameters[parameter] = draw(st.sampled_from(aim.values(name, parameter)))
    body = None
    if name in aim.bodies and draw(st.booleans()):
        body = to_json(draw(spoiled(aim.bodies[name])))
    if case.query and draw(st.integers(0, 3)) == 0:
        case.query = {**case.query, draw(st.sampled_from(sorted(case.query))): draw(st.sampled_from(WORDS))}
    return case, body, draw(odd_headers()) if draw(st.integers(0, 2)) == 0 else {}


def send(
    session: requests.Session, aim: Target, case: Any, body: bytes | None, headers: dict[str, str]
) -> requests.Response:
    """Send a request as drawn, with a body in the place of its own if one is given."""
    sent = case.as_transport_kwargs(base_url=aim.url)
    given = dict(sent.get("headers") or {})
    if body is not None:
        sent = {name: value for name, value in sent.items() if name not in ("json", "data", "files")}
        sent["data"], given["Content-Type"] = body, "application/json"
    sent["headers"] = {**given, **wire(headers), **BEARER}
    return session.request(**sent, timeout=SECONDS, allow_redirects=False)


def wire(headers: dict[str, str]) -> dict[str, bytes]:
    """Return headers as bytes that can be sent: a line break would be the client's mistake, not a request."""
    return {name: value.strip().encode("utf-8", "surrogatepass") for name, value in headers.items()}


def fuzz(aim: Target, examples: int, *, random: bool) -> tuple[Counter[int], list[str]]:
    """Try every operation; return how often each status was answered, and what was wrong."""
    schema = schemathesis.openapi.from_dict(json.loads(text()))
    operations = [item.ok() for item in schema.get_all_operations()]
    seen: Counter[int] = Counter()
    wrong: list[str] = []
    with requests.Session() as session, capture_logs():
        for operation in sorted(operations, key=lambda item: item.method == "delete"):
            attempt = trial(session, aim, operation, seen, examples, random)
            try:
                attempt()
            except (Exception, FailureGroup) as error:  # every operation is to have its turn
                wrong.append(f"{operation.label}: {error}")
    return seen, wrong


def trial(
    session: requests.Session, aim: Target, operation: Any, seen: Counter[int], examples: int, random: bool
) -> Callable[[], None]:
    """Return the property of one operation."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=not random,
        phases=[Phase.generate, Phase.shrink] if random else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests_to(operation, aim))
    def property_of_operation(drawn: Any) -> None:
        case, body, headers = drawn
        answer = send(session, aim, case, body, headers)
        seen[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    return property_of_operation


def test_a_few_odd_requests_are_all_answered_as_documented(
    make_api: Callable[..., Api], tmp_path: Path
) -> None:
    with target(make_api(webhook_allow_private=True), tmp_path) as aim:
        seen, wrong = fuzz(aim, FEW, random=False)
    assert not wrong, "\n\n".join(wrong)
    assert {200, 404, 422} <= set(seen)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_thousand_odd_requests_are_all_answered_as_documented(
    make_api: Callable[..., Api], tmp_path: Path
) -> None:
    with target(make_api(webhook_allow_private=True), tmp_path) as aim:
        seen, wrong = fuzz(aim, MANY, random=True)
    sys.stdout.write(f"{seen.total()} answers: {dict(sorted(seen.items()))}\n")
    assert not wrong, "\n\n".join(wrong)
    assert seen.total() >= LEAST, seen

"""Every operation of the OpenAPI document has a method of the client and a command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from api.write_openapi import text
from trsp_cli.client import Client
from trsp_cli.main import app

OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in json.loads(text())["paths"].items()
    for method, operation in item.items()
    if operation["tags"] != ["links"]
}
"""All but the links themselves, which any program follows without a client."""
ANSWER: dict[str, Any] = {
    "items": [], "times": [], "next_cursor": None, "status": "succeeded", "key": "k", "secret": "s",
}  # fmt: skip
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
WRITTEN = Path("some.txt")

CALLS: Mapping[str, Callable[[Client], Any]] = {
    "jobs-create": lambda c: c.submit({}),
    "jobs-list_jobs": lambda c: list(c.every(status="queued")),
    "jobs-validate": lambda c: c.validate({}),
    "jobs-clone": lambda c: c.clone("x", {"priority": 1}),
    "jobs-show": lambda c: c.wait("x"),
    "jobs-delete": lambda c: c.delete("x", etag='"1"'),
    "jobs-cancel": lambda c: c.cancel("x"),
    "jobs-retry": lambda c: c.retry("x", from_scratch=True),
    "jobs-attempts": lambda c: c.attempts("x"),
    "compare-compare": lambda c: c.compare(["x", "y"]),
    "events-read": lambda c: list(c.events_so_far("x")),
    "events-stream": lambda c: list(c.events("x")),
    "files-list_artifacts": lambda c: c.artifacts("x"),
    "files-download": lambda c: c.download("x", "a", WRITTEN, sha256=EMPTY),
    "files-create": lambda c: c.links("x"),
    "files-report": lambda c: c.report("x"),
    "files-logs": lambda c: c.logs("x", attempt=1),
    "files-stream": lambda c: list(c.stream_log("x")),
    "schedules-create": lambda c: c.create_schedule({}),
    "schedules-list_schedules": lambda c: c.schedules(limit=1),
    "schedules-preview_times": lambda c: c.preview_times("* * * * *"),
    "schedules-show": lambda c: c.schedule("x"),
    "schedules-change": lambda c: c.change_schedule("x", {}, version=1),
    "schedules-delete": lambda c: c.delete_schedule("x"),
    "schedules-pause": lambda c: c.pause_schedule("x"),
    "schedules-resume": lambda c: c.resume_schedule("x"),
    "schedules-run_now": lambda c: c.run_schedule("x"),
    "schedules-preview": lambda c: c.preview_schedule("x"),
    "schedules-fires": lambda c: c.fires("x", limit=1),
    "slots-list_slots": lambda c: c.slots(limit=1),
    "slots-show": lambda c: c.slot("x"),
    "slots-history": lambda c: c.slot_history("x"),
    "slots-publish": lambda c: c.publish("x", "s"),
    "slots-rollback": lambda c: c.rollback("x"),
    "models-register": lambda c: c.register_model("x", "m"),
    "models-list_models": lambda c: c.models(),
    "models-show": lambda c: c.model("x"),
    "models-delete": lambda c: c.delete_model("x"),
    "calibration-sets-upload": lambda c: c.upload_text(WRITTEN),
    "calibration-sets-list_sets": lambda c: c.calibration_sets(deleted=True),
    "calibration-sets-show": lambda c: c.calibration_set("x"),
    "calibration-sets-delete": lambda c: c.delete_calibration_set("x"),
    "calibration-sets-count": lambda c: c.count_tokens("x", "m"),
    "keys-list_keys": lambda c: c.keys(),
    "keys-create": lambda c: c.create_key("x"),
    "keys-show": lambda c: c.key("x"),
    "keys-revoke": lambda c: c.revoke_key("x"),
    "webhooks-list_webhooks": lambda c: c.webhooks(),
    "webhooks-create": lambda c: c.create_webhook("https://x"),
    "webhooks-show": lambda c: c.webhook("x"),
    "webhooks-delete": lambda c: c.delete_webhook("x"),
    "webhooks-rotate_secret": lambda c: c.rotate_webhook_secret("x"),
    "webhooks-deliveries": lambda c: c.deliveries("x"),
    "webhooks-redeliver": lambda c: c.redeliver("x", "y"),
    "audit-entries": lambda c: c.audit(),
    "usage-usage": lambda c: c.usage(),
    "system-healthz": lambda c: c.alive(),
    "system-readyz": lambda c: c.ready(),
    "system-show_version": lambda c: c.version(),
    "system-methods": lambda c: c.methods(),
    "system-workers": lambda c: c.workers(),
}
COMMANDS: Mapping[str, str] = {
    "jobs-create": "jobs submit", "jobs-list_jobs": "jobs list", "jobs-validate": "jobs submit",
    "jobs-clone": "jobs clone", "jobs-show": "jobs show", "jobs-delete": "jobs delete",
    "jobs-cancel": "jobs cancel", "jobs-retry": "jobs retry", "jobs-attempts": "jobs attempts",
    "compare-compare": "jobs compare", "events-read": "jobs events", "events-stream": "jobs watch",
    "files-list_artifacts": "jobs artifacts", "files-download": "jobs download", "files-report": "jobs report",
    "files-create": "jobs artifacts",
    "files-logs": "jobs logs", "files-stream": "jobs logs", "schedules-create": "schedules create",
    "schedules-list_schedules": "schedules list", "schedules-preview_times": "schedules preview",
    "schedules-show": "schedules show", "schedules-change": "schedules update",
    "schedules-delete": "schedules delete", "schedules-pause": "schedules pause",
    "schedules-resume": "schedules resume", "schedules-run_now": "schedules run-now",
    "schedules-preview": "schedules show", "schedules-fires": "schedules history",
    "slots-list_slots": "slots list", "slots-show": "slots show", "slots-history": "slots history",
    "slots-publish": "slots publish", "slots-rollback": "slots rollback", "models-register": "models register",
    "models-list_models": "models list", "models-show": "models show", "models-delete": "models delete",
    "calibration-sets-upload": "calibration upload", "calibration-sets-list_sets": "calibration list",
    "calibration-sets-show": "calibration show", "calibration-sets-delete": "calibration delete",
    "calibration-sets-count": "calibration show", "keys-list_keys": "keys list", "keys-create": "keys create",
    "keys-show": "keys show", "keys-revoke": "keys revoke", "webhooks-list_webhooks": "webhooks list",
    "webhooks-create": "webhooks create", "webhooks-show": "webhooks show", "webhooks-delete": "webhooks delete",
    "webhooks-rotate_secret": "webhooks rotate-secret", "webhooks-deliveries": "webhooks deliveries",
    "webhooks-redeliver": "webhooks redeliver", "audit-entries": "audit", "usage-usage": "usage",
    "system-healthz": "status", "system-readyz": "status", "system-show_version": "status",
    "system-methods": "methods", "system-workers": "workers",
}  # fmt: skip


def test_every_operation_has_a_method_and_a_command() -> None:
    assert set(CALLS) == set(OPERATIONS), "give the client a method, and say here how it is called"
    assert set(COMMANDS) == set(OPERATIONS), "give the command line a command, and name it here"


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_method_sends_what_the_document_tells(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    WRITTEN.write_text("text")
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if request.url.path.endswith("/stream"):
            return httpx.Response(200, text="event: end\ndata: {}\n\n")
        if "/artifacts/" in request.url.path:
            return httpx.Response(200, content=b"")
        return httpx.Response(200, json=ANSWER, headers={"Log-Next-Offset": "0", "Log-Complete": "true"})

    with Client("http://service", "a-key", transport=httpx.MockTransport(answer)) as client:
        CALLS[name](client)
    method, path, operation = OPERATIONS[name]
    assert len(sent) == 1
    assert sent[0].method == method
    assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), sent[0].url.path)
    known = {parameter["name"].lower(): parameter for parameter in operation.get("parameters", ())}
    assert {item.lower() for item in sent[0].url.params} <= set(known)
    takes_key = known.get("idempotency-key", {}).get("description", "").startswith("Your own name")
    assert ("idempotency-key" in sent[0].headers) == takes_key


@pytest.mark.parametrize("name", sorted(set(COMMANDS.values())))
def test_the_command_is_there(name: str) -> None:
    found: Any = typer.main.get_command(app)
    for word in name.split():
        found = found.commands[word]
    assert found.help

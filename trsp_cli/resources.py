"""The client's calls about schedules, slots, models and calibration sets; `client.Client` has them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from trsp_cli.transport import Json, Transport

UPLOAD_SECONDS = 3600
COUNT_SECONDS = 600
_KINDS = {".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}


class Sender(Protocol):
    """What these calls need of the client."""

    _transport: Transport


class ScheduleCalls:
    """Schedules: job specs that become jobs at times of a cron."""

    def create_schedule(
        self: Sender, schedule: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Json:
        """Create a schedule: `name`, `cron`, `job`, and if wanted `zone`, `misfire`, `overlap`.

        `idempotency_key` is that of `Client.submit`.
        """
        return self._transport.once("/v1/schedules", key=idempotency_key, json=schedule)

    def schedules(self: Sender, **page: Any) -> Json:
        """Return one page of schedules, newest first; `page` is any of `after`, `limit`."""
        return self._transport.json("GET", "/v1/schedules", params=_given(page))

    def schedule(self: Sender, schedule_id: str) -> Json:
        """Return a schedule."""
        return self._transport.json("GET", _path("schedules", schedule_id))

    def change_schedule(self: Sender, schedule_id: str, changes: Mapping[str, Any], *, version: int) -> Json:
        """Change a schedule that was read at `version`; `job` is replaced as a whole."""
        headers = {"If-Match": f'"{version}"'}
        return self._transport.json("PATCH", _path("schedules", schedule_id), json=changes, headers=headers)

    def delete_schedule(self: Sender, schedule_id: str) -> None:
        """Remove a schedule with its history; its jobs stay."""
        self._transport.send("DELETE", _path("schedules", schedule_id))

    def pause_schedule(self: Sender, schedule_id: str) -> Json:
        """Let no time make a job until it is resumed."""
        return self._transport.json("POST", _path("schedules", schedule_id, "pause"))

    def resume_schedule(self: Sender, schedule_id: str) -> Json:
        """Go on with the next time from now."""
        return self._transport.json("POST", _path("schedules", schedule_id, "resume"))

    def run_schedule(self: Sender, schedule_id: str, *, idempotency_key: str | None = None) -> Json:
        """Make a job of a schedule at once; the answer names it as `job_id`."""
        return self._transport.once(_path("schedules", schedule_id, "run-now"), key=idempotency_key)

    def preview_schedule(self: Sender, schedule_id: str) -> list[str]:
        """Return the next times of a schedule, at most five."""
        return list(self._transport.json("GET", _path("schedules", schedule_id, "preview"))["times"])

    def preview_times(self: Sender, cron: str, zone: str = "UTC") -> list[str]:
        """Return the next times of a cron in a zone, at most five."""
        return list(
            self._transport.json("POST", "/v1/schedules/preview", json={"cron": cron, "zone": zone})["times"]
        )

    def fires(self: Sender, schedule_id: str, **page: Any) -> Json:
        """Return what came of a schedule's times, latest first; `page` is any of `before`, `limit`."""
        return self._transport.json("GET", _path("schedules", schedule_id, "fires"), params=_given(page))


class SlotCalls:
    """Slots: what is published under which name."""

    def slots(self: Sender, **page: Any) -> Json:
        """Return one page of slots by name; `page` is any of `after`, `limit`."""
        return self._transport.json("GET", "/v1/slots", params=_given(page))

    def slot(self: Sender, name: str) -> Json:
        """Return a slot and its current result."""
        return self._transport.json("GET", _path("slots", name))

    def slot_history(self: Sender, name: str, **page: Any) -> Json:
        """Return what was decided about a slot, latest first; `page` is any of `before`, `limit`."""
        return self._transport.json("GET", _path("slots", name, "history"), params=_given(page))

    def publish(self: Sender, job_id: str, slot: str, *, idempotency_key: str | None = None) -> Json:
        """Make a job's result the current one of a slot, whatever the gate would say."""
        path = _path("jobs", job_id, "publish")
        return self._transport.once(path, key=idempotency_key, json={"slot": slot})

    def rollback(
        self: Sender, job_id: str, slot: str | None = None, *, idempotency_key: str | None = None
    ) -> Json:
        """Take a current result off its slot; the one before it becomes current again."""
        path = _path("jobs", job_id, "rollback")
        return self._transport.once(path, key=idempotency_key, json=_given({"slot": slot}))


class InputCalls:
    """Registered models and uploaded texts."""

    def register_model(self: Sender, name: str, model: str, *, idempotency_key: str | None = None) -> Json:
        """Check a model once and pin it under a name that jobs may use."""
        body = {"name": name, "model": model}
        return self._transport.once("/v1/models", key=idempotency_key, json=body, timeout=UPLOAD_SECONDS)

    def models(self: Sender, **page: Any) -> Json:
        """Return one page of registered models by name; `page` is any of `after`, `limit`."""
        return self._transport.json("GET", "/v1/models", params=_given(page))

    def model(self: Sender, name: str) -> Json:
        """Return a registered model."""
        return self._transport.json("GET", _path("models", name))

    def delete_model(self: Sender, name: str) -> None:
        """Forget a registered model."""
        self._transport.send("DELETE", _path("models", name))

    def upload_text(self: Sender, file: Path, *, name: str | None = None, kind: str | None = None) -> Json:
        """Upload a text, streamed from its file; the same bytes are kept once.

        Args:
            file: The text.
            name: What a person calls it; the file's name unless given.
            kind: `text`, `jsonl` or `parquet`; by the file's name unless given.
        """
        words = {"name": name or file.name, "kind": kind or _KINDS.get(file.suffix.lower(), "text")}
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)}
        with file.open("rb") as content:
            return self._transport.json(
                "POST",
                "/v1/calibration-sets",
                params=words,
                content=content,
                headers=headers,
                timeout=UPLOAD_SECONDS,
            )

    def calibration_sets(self: Sender, **page: Any) -> Json:
        """Return one page of uploaded texts, newest first; `page` is any of `after`, `limit`, `deleted`."""
        return self._transport.json("GET", "/v1/calibration-sets", params=_given(page))

    def calibration_set(self: Sender, set_id: str) -> Json:
        """Return an uploaded text and the jobs that named it; of a deleted one, the proof."""
        return self._transport.json("GET", _path("calibration-sets", set_id))

    def count_tokens(self: Sender, set_id: str, model: str, *, field: str | None = None) -> Json:
        """Count a text's tokens for a model; the first time may take minutes."""
        words = _given({"model": model, "field": field})
        path = _path("calibration-sets", set_id, "tokens")
        return self._transport.json("GET", path, params=words, timeout=COUNT_SECONDS)

    def delete_calibration_set(self: Sender, set_id: str) -> Json:
        """Delete an uploaded text and return the proof."""
        return self._transport.json("DELETE", _path("calibration-sets", set_id))


def _given(words: Mapping[str, Any]) -> Json:
    return {name: value for name, value in words.items() if value is not None}


def _path(*parts: str) -> str:
    return "/".join(["/v1", *(quote(part, safe="") for part in parts)])

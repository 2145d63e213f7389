"""Uploaded texts over HTTP: streamed, capped, kept once, counted, deleted with proof."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow
import pytest
from pyarrow import parquet

from tests.api.conftest import BEARER, SPEC, Api
from tests.api.serving import served
from tests.api.test_errors import is_problem
from trsp_jobs.errors import StoreUnavailable
from trsp_jobs.inputs import calibration_sets
from trsp_jobs.storage import open_store

TEXT = b"The quick brown fox jumps over the lazy dog. " * 200


def upload(api: Api, content: Any = TEXT, kind: str = "text", name: str = "n") -> Any:
    return api.client.post("/v1/calibration-sets", params={"name": name, "kind": kind}, content=content)


def job(set_id: str, **changes: Any) -> dict[str, Any]:
    small = {"set": f"upload:{set_id}", "sequences": 2, "sequence_length": 32}
    return {**SPEC, "calibration": small, **changes}


def test_a_text_is_kept_with_its_hash_and_the_same_one_once(api: Api) -> None:
    answer = upload(api)
    made = answer.json()
    assert answer.status_code == 201, answer.text
    assert (made["size"], made["sha256"]) == (len(TEXT), hashlib.sha256(TEXT).hexdigest())
    assert made["reference"] == f"upload:{made['id']}"
    assert b"".join(api.store.open_range(f"calibration-sets/{made['id']}/text")) == TEXT
    again = upload(api, name="another name")
    assert (again.status_code, again.json()) == (200, made)
    assert upload(api, b'{"text": "a"}\n', "jsonl").status_code == 201
    assert len(api.client.get("/v1/calibration-sets").json()["items"]) == 2
    assert list(api.services.settings.upload_dir.iterdir()) == []


def test_an_upload_is_streamed_not_held(api: Api, tmp_path: Path) -> None:
    object.__setattr__(api.services, "store", open_store((tmp_path / "kept").as_uri()))
    pieces, piece = 160, (b"0123456789 " * 100_000)[: 1 << 20]
    words = {"name": "n", "kind": "text"}
    with served(api) as (url, _, _):
        tracemalloc.start()
        sent = iter([piece] * pieces)
        answer = httpx.post(
            f"{url}/v1/calibration-sets", params=words, content=sent, headers=BEARER, timeout=300
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert answer.status_code == 201, answer.text
    assert answer.json()["size"] == pieces << 20
    assert peak < pieces << 19


def test_a_text_that_is_too_large_is_refused_announced_or_not(make_api: Callable[..., Api]) -> None:
    api = make_api(upload_limit_bytes=1000)
    assert is_problem(upload(api, b"x" * 1001), 413, "too-large")
    assert is_problem(upload(api, iter([b"x" * 600] * 2)), 413, "too-large")
    assert upload(api, b"x" * 1000).status_code == 201
    assert list(api.services.settings.upload_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("text", b"", "is empty"),
        ("text", b"abc\xff", "the byte at offset 3"),
        ("text", b"x" * (1 << 20) + b"\xc3", "the byte at offset 1048576"),
        ("jsonl", b"no json\n", "first line is no JSON"),
        ("jsonl", b"[1]\n", "no JSON object"),
        ("jsonl", b"[" * 5000, "first line is no JSON"),
        ("parquet", b"PAR1 but no end", "no parquet file"),
        ("parquet", b"x", "no parquet file"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(api: Api, kind: str, content: bytes, words: str) -> None:
    answer = upload(api, content, kind)
    assert is_problem(answer, 422, "calibration-refused")
    assert words in answer.json()["detail"]
    assert list(api.store.list("calibration-sets")) == []


def test_parquet_is_taken(api: Api, tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["a", "b"]}), tmp_path / "p")
    assert upload(api, (tmp_path / "p").read_bytes(), "parquet").status_code == 201


def test_names_are_words_and_never_paths(api: Api) -> None:
    made = upload(api, name="../../etc/passwd").json()
    assert {item.path for item in api.store.list("calibration-sets")} == {
        f"calibration-sets/{made['id']}/text"
    }
    assert upload(api, b"other", name="a\0b").status_code == 422
    assert upload(api, b"other", kind="pickle").status_code == 422
    for name in ("..%5c..%5cetc", "cal_x", "CAL_" + "0" * 26):
        assert is_problem(api.client.get(f"/v1/calibration-sets/{name}"), 404, "resource-not-found")


def test_a_job_names_a_text_and_is_refused_one_that_is_not_there(api: Api) -> None:
    made = upload(api).json()
    accepted = api.client.post("/v1/jobs", json=job(made["id"]))
    assert accepted.status_code == 202, accepted.text
    shown = api.client.get(f"/v1/calibration-sets/{made['id']}").json()
    assert shown["used_by"] == [accepted.json()["id"]]
    for wrong in ("cal_" + "0" * 26, "../../etc/passwd", "x"):
        answer = api.client.post("/v1/jobs", json=job(wrong))
        assert answer.json()["errors"][0]["pointer"] == "/calibration/set", answer.text
    evaluated = {"perplexity": ["upload:nothing"]}
    answer = api.client.post("/v1/jobs", json=job(made["id"], evaluation=evaluated))
    assert answer.json()["errors"][0]["pointer"] == "/evaluation/perplexity/0"


def test_a_text_too_small_for_a_window_is_refused_before_the_job(api: Api) -> None:
    made = upload(api, b"short").json()
    answer = api.client.post("/v1/jobs", json=job(made["id"]))
    assert "has 5 bytes, too few" in answer.json()["detail"]


def test_deleting_leaves_the_proof_and_nothing_else(api: Api) -> None:
    made = upload(api).json()
    used = api.client.post("/v1/jobs", json=job(made["id"])).json()["id"]
    assert is_problem(api.client.delete(f"/v1/calibration-sets/{made['id']}"), 409, "conflict")
    api.client.post(f"/v1/jobs/{used}/cancel")
    proof = api.client.delete(f"/v1/calibration-sets/{made['id']}").json()
    assert (proof["deleted_by"], proof["used_by"], proof["sha256"]) == ("operator", [used], made["sha256"])
    assert proof["deleted_at"]
    assert proof["erased_at"]
    assert list(api.store.list("calibration-sets")) == []
    assert api.client.delete(f"/v1/calibration-sets/{made['id']}").json() == proof
    assert api.client.get(f"/v1/calibration-sets/{made['id']}").json() == proof
    assert api.client.get("/v1/calibration-sets").json()["items"] == []
    listed = api.client.get("/v1/calibration-sets", params={"deleted": True}).json()["items"]
    assert [item["id"] for item in listed] == [made["id"]]
    assert api.client.post("/v1/jobs", json=job(made["id"])).status_code == 422
    assert upload(api).json()["id"] != made["id"]


def test_while_the_store_is_away_a_deletion_waits_for_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made = upload(api).json()

    def away(*_: object) -> int:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(api.store, "delete", away, raising=False)
        proof = api.client.delete(f"/v1/calibration-sets/{made['id']}").json()
    assert (proof["erased_at"], bool(proof["deleted_at"])) == (None, True)
    assert calibration_sets.erase(api.services.sessions, api.store) == [made["id"]]
    assert api.client.get(f"/v1/calibration-sets/{made['id']}").json()["erased_at"]


def test_an_upload_that_the_store_did_not_take_cannot_be_used(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(api.store, "put_file", away, raising=False)
        assert is_problem(upload(api), 503, "store-unavailable")
    assert api.client.get("/v1/calibration-sets").json()["items"] == []
    monkeypatch.setattr(calibration_sets, "ABANDONED_SECONDS", 0)
    assert len(calibration_sets.erase(api.services.sessions, api.store)) == 1
    assert upload(api).status_code == 201


def test_tokens_are_counted_for_a_model_and_remembered(
    make_api: Callable[..., Api], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.trsp_core.conftest import save_tiny

    save_tiny(tmp_path / "tiny", "llama")
    api = make_api(file_roots=[tmp_path])
    lines = "".join(json.dumps({"body": f"words and words {n}"}) + "\n" for n in range(50))
    made = upload(api, lines.encode(), "jsonl").json()
    address = f"/v1/calibration-sets/{made['id']}/tokens"
    model = str(tmp_path / "tiny")
    missing = api.client.get(address, params={"model": model})
    assert is_problem(missing, 422, "input-refused")
    assert "has no field 'text'; it has body" in missing.json()["detail"]
    first = api.client.get(address, params={"model": model, "field": "body"})
    assert first.status_code == 200, first.text
    assert first.json()["tokens"] > 100
    assert first.json()["whole"] is True
    monkeypatch.setattr("trsp_jobs.inputs.token_counts._count", None)
    assert api.client.get(address, params={"model": model, "field": "body"}).json() == first.json()
    assert is_problem(api.client.get(address, params={"model": "/etc"}), 422, "model-refused")

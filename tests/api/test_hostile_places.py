"""Names of models and texts that lead somewhere else: every door refuses them, and nobody is connected to."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api

HERE = "127.0.0.1:PORT"
"""A listener of this machine that must never be connected to."""
MODELS = (
    f"http://{HERE}/model", f"https://{HERE}/model", f"//{HERE}/model", f"hf:http://{HERE}/x", f"hf:{HERE}/x",
    f"hf://{HERE}/x", f"hf:a/b@http://{HERE}", "hf:../../etc", "hf:a/../../b", "hf:a/b/c", "hf:a/b@../../c", "hf:a/b@",
    f"s3://{HERE}/x", f"s3://user:pass@{HERE}/x", "s3://169.254.169.254/latest/meta-data", "s3://127.0.0.1/x",
    "s3://[::1]/x", "s3://[::ffff:169.254.169.254]/x", "s3://2130706433:80/x", "s3://0x7f.1:80/x", "s3://a..b/x",
    "s3://bucket/../../x", "s3://bucket/%2e%2e/x?versionId=1#", f"s3://bucket@{HERE}/x", "s3://BUCKET/x",
    f"gguf:http://{HERE}/x.gguf", f"gguf://{HERE}/x.gguf", "gguf:/dev/zero", "gguf:/proc/self/mem", "gguf:../x.gguf",
    "gguf:/etc/passwd", "file:///etc/passwd", "/etc", "/proc/self", "~", "~root", ".", "..", "../..", "\\\\host\\share",
    "demo:../x", f"demo:http://{HERE}", "upload:cal_x", "ROOT/../..", "ROOT/out", "gguf:ROOT/out/secret.gguf",
    "data:text/plain,x", f"gopher://{HERE}/", "ldap://127.0.0.1/a", "javascript:1", "a\0b", "/etc/passwd\0.gguf",
    "C:\\Windows", "gguf:ROOT/pipe", "ROOT/" + "a/" * 2000, "hf:" + "a" * 300 + "/b",
)  # fmt: skip
TEXTS = (
    "text:/etc/passwd", "text:../../etc/passwd", "text:~/.ssh/id_rsa", "text:/proc/self/environ", "text:/dev/zero",
    "text:ROOT/out/secret.txt", "text:ROOT/../secret.txt", "text:ROOT/pipe", f"text:http://{HERE}/x",
    f"jsonl:http://{HERE}/x", f"jsonl:s3://{HERE}/x", f"parquet:http://{HERE}/x", "parquet:s3://127.0.0.1/x",
    f"parquet:hf://{HERE}/x", "parquet:/dev/zero#text", "jsonl:/etc/passwd#a", "upload:../x", "upload:cal_x",
    "upload:cal_" + "0" * 26, f"http://{HERE}/x", "python-docs+text:/etc/passwd", "text:", "text:\0", "text:ROOT",
)  # fmt: skip
SECONDS = 10
"""Longest that a refusal may take."""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that jobs may read, with a link that leads out of it and a pipe that never ends."""
    import os

    folder, secret = tmp_path / "root", tmp_path / "secret"
    folder.mkdir()
    secret.mkdir()
    (secret / "secret.txt").write_text("secret " * 10_000)
    (secret / "secret.gguf").write_bytes(b"GGUF" + bytes(100))
    (folder / "out").symlink_to(secret)
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture
def open_api(
    make_api: Callable[..., Api], root: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> Api:
    """An application that may read a folder and S3; S3's own address answers nothing."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    return make_api(file_roots=[root], s3_enabled=True)


def doors(api: Api, spec: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every address that takes a job spec, with its body."""
    yield "/v1/jobs", dict(spec)
    yield "/v1/jobs/validate", dict(spec)
    yield "/v1/schedules", {"name": "s", "cron": "0 3 * * MON", "job": dict(spec)}


def refused(api: Api, address: str, body: Mapping[str, Any], said: str) -> str:
    """Send what must be refused at once; return what the refusal says."""
    begun = time.monotonic()
    answer = api.client.post(address, json=dict(body))
    assert time.monotonic() - begun < SECONDS, (address, said)
    assert answer.status_code == 422, (address, said, answer.text)
    return answer.text


def nobody_came(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return True
    return False


def spelled(name: str, listener: socket.socket, root: Path) -> str:
    return name.replace("PORT", str(listener.getsockname()[1])).replace("ROOT", str(root))


@pytest.mark.parametrize("model", MODELS)
def test_a_model_elsewhere_is_refused_by_every_door(
    model: str, open_api: Api, listener: socket.socket, root: Path
) -> None:
    named = spelled(model, listener, root)
    for address, body in doors(open_api, {**open_api.spec, "model": named}):
        assert "/model" in refused(open_api, address, body, model)
    refused(open_api, "/v1/models", {"name": "x", "model": named}, model)
    assert nobody_came(listener)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_elsewhere_is_refused_by_every_door(
    text: str, open_api: Api, listener: socket.socket, root: Path
) -> None:
    named = spelled(text, listener, root)
    spec = {**open_api.spec, "calibration": named}
    judged = {**open_api.spec, "evaluation": {"perplexity": [named]}}
    for wanted, pointer in ((spec, "/calibration"), (judged, "/evaluation")):
        for address, body in doors(open_api, wanted):
            said = refused(open_api, address, body, text)
            assert pointer in said
            assert "secret secret" not in said
    assert nobody_came(listener)


@pytest.mark.parametrize(
    "name", ["../x", "..", "/etc/passwd", "a/../../b", "CON", "~root", "-rf", "a" * 200, "%2e%2e"]
)
def test_the_name_of_an_upload_is_no_path(name: str, api: Api, tmp_path: Path) -> None:
    params = {"name": name, "kind": "text"}
    made = api.client.post("/v1/calibration-sets", params=params, content=b"Some text of mine. " * 40)
    assert (made.status_code, made.json()["name"]) == (201, name)
    folder = api.services.settings.upload_dir
    assert list(folder.iterdir()) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

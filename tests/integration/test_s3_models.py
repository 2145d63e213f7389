"""Models in a bucket, on a server that answers ranges and on one that does not."""

from __future__ import annotations

import json
import secrets
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from tests.servers import S3Server, free_port
from trsp_cli.main import run
from trsp_core.errors import ModelRefused, WorkFailed
from trsp_core.safetensors_file import Entry, read_header, write
from trsp_core.sources import SourcePolicy, bucket, inspect, materialize, opened, resolve, s3
from trsp_core.surgery import remove_streamed

pytestmark = pytest.mark.integration

WIDTH, LAYERS, VOCABULARY = 64, 4, 128
KEPT = (0, 2, 3)
CONFIG = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": True,
}


def make_model(folder: Path, **changes: Any) -> Path:
    """Write a model of two shards; bytes that tell where they belong."""
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        shapes[f"model.layers.{layer}.mlp.up_proj.weight"] = (WIDTH * 4, WIDTH)
        shapes[f"model.layers.{layer}.input_layernorm.weight"] = (WIDTH,)
    names = list(shapes)
    folder.mkdir()
    table = {}
    for number, part in enumerate((names[:4], names[4:]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        entries = [Entry(name, "F16", shapes[name], ()) for name in part]
        filled = [replace(entry, content=[secrets.token_bytes(entry.bytes)]) for entry in entries]
        list(write(folder / file, filled, {"format": "pt"}))
        table.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
    (folder / "training.log").write_text("not part of a model")
    return folder


@dataclass
class Bucket:
    """A prefix of its own on a server, and a policy that may read it."""

    url: str
    store: S3Store
    policy: SourcePolicy

    def put(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                obstore.put(self.store, str(path.relative_to(folder)), path)

    def refusal(self, url: str | None = None) -> str:
        with pytest.raises(ModelRefused) as caught:
            resolve(url or self.url, self.policy)
        return str(caught.value)


@pytest.fixture
def enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[S3Server], Bucket]:
    def entered(server: S3Server) -> Bucket:
        access = server.access
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(access.key_id))
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(access.secret))
        monkeypatch.setenv("AWS_ENDPOINT_URL", str(access.endpoint))
        monkeypatch.setenv("TRSP_S3_ENABLED", "1")
        monkeypatch.setenv("TRSP_CACHE", str(tmp_path / "cache"))
        prefix = f"models/{secrets.token_hex(4)}"
        store = S3Store("bucket", prefix=prefix, client_options={"allow_http": True})
        return Bucket(f"s3://bucket/{prefix}", store, SourcePolicy.from_environment())

    return entered


@pytest.fixture(params=["rclone", "moto"])
def place(request: pytest.FixtureRequest, enter: Callable[[S3Server], Bucket]) -> Bucket:
    return enter(request.getfixturevalue(request.param))


@pytest.fixture
def faithful(moto: S3Server, enter: Callable[[S3Server], Bucket]) -> Bucket:
    return enter(moto)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("piece_bytes", [1000, 8 * 1024 * 1024])
def test_a_removal_from_a_bucket_is_that_from_a_folder(
    place: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    model = make_model(tmp_path / "model")
    place.put(model)
    monkeypatch.setattr(bucket, "PIECE_BYTES", piece_bytes)
    source = resolve(place.url, place.policy)
    assert inspect(source).layers == LAYERS
    with opened(source, place.policy) as (folder, read):
        remove_streamed(folder, tmp_path / "out", KEPT, read=read)
    remove_streamed(model, tmp_path / "local", KEPT)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_the_command_removes_from_a_bucket_and_says_so(
    place: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.put(make_model(tmp_path / "model"))
    assert run(["remove", place.url, "--layers", "1", "--out", str(tmp_path / "out")]) == 0, (
        capsys.readouterr()
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n---\n# A model\n")
    assert f"`trsp remove {place.url} --layers 1`" in card
    assert resolve(place.url, place.policy).revision in card


def test_a_bucket_materializes_once_as_the_folder(place: Bucket, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    place.put(model)
    source = resolve(place.url, place.policy)
    folder = materialize(source, place.policy)
    expected = {name: data for name, data in contents(model).items() if name != "training.log"}
    assert contents(folder) == expected
    written = (folder / "config.json").stat().st_mtime_ns
    assert materialize(source, place.policy) == folder
    assert (folder / "config.json").stat().st_mtime_ns == written


def test_no_weight_moves_before_everything_was_judged(faithful: Bucket, tmp_path: Path) -> None:
    faithful.put(make_model(tmp_path / "model"))
    source = resolve(faithful.url, faithful.policy)
    for path in source.path.glob("*.safetensors"):
        header = read_header(path)
        assert header.raw in path.read_bytes()
        assert not any(path.read_bytes()[header.data_start :])
        assert path.stat().st_blocks * 512 < path.stat().st_size


def test_the_revision_follows_the_objects(faithful: Bucket, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    faithful.put(model)
    first = resolve(faithful.url, faithful.policy)
    assert resolve(faithful.url + "/", faithful.policy).revision == first.revision
    data = bytearray((model / "model-00002-of-00002.safetensors").read_bytes())
    data[-1] ^= 1
    obstore.put(faithful.store, "model-00002-of-00002.safetensors", bytes(data))
    assert resolve(faithful.url, faithful.policy).revision != first.revision
    with pytest.raises(ModelRefused, match="was changed"), opened(first, faithful.policy):
        pass


def test_an_object_that_is_replaced_while_it_is_read_ends_the_work(place: Bucket, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    place.put(model)
    source = resolve(place.url, place.policy)
    with opened(source, place.policy) as (folder, read):
        changed = bytes(len((model / "model-00002-of-00002.safetensors").read_bytes()))
        obstore.put(place.store, "model-00002-of-00002.safetensors", changed)
        with pytest.raises(WorkFailed, match="changed after it was listed"):
            remove_streamed(folder, tmp_path / "out", KEPT, read=read)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def damaged(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder


LENGTH = struct.pack("<Q", 10**15)
WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "code": (lambda f: damaged(f, "modeling.py", b"import os"), "code file modeling.py"),
    "auto_map": (lambda f: damaged(f, "config.json", b'{"auto_map": {}}'), "auto_map"),
    "pickles": (lambda f: [p.rename(p.with_suffix(".bin")) for p in f.glob("*.safetensors")], "is not there"),
    "header": (lambda f: damaged(f, "model-00001-of-00002.safetensors", LENGTH * 3), "cut short"),
    "empty": (lambda f: damaged(f, "model-00001-of-00002.safetensors", b""), "cut short"),
    "config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "large": (lambda f: damaged(f, "tokenizer.json", bytes(200_001)), "larger than"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_folder_is_refused_for_a_bucket_is_too(
    faithful: Bucket, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_MOST_BYTES", 200_000)
    spoil, said = WRONG[case]
    model = make_model(tmp_path / "model")
    spoil(model)
    faithful.put(model)
    assert said in faithful.refusal()
    assert not list((tmp_path / "cache").rglob("config.json"))


def test_a_bucket_that_is_not_there_or_holds_nothing_is_told(faithful: Bucket) -> None:
    assert "holds no config.json" in faithful.refusal()
    assert "is not there" in faithful.refusal("s3://no-such-bucket/x")


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3://B/x", "s3:bucket/x", "s3://bucket/../x", "s3://bucket//x//y", "s3://169.254.169.254/latest",
     "s3://a..b/x", "s3://bucket:80/x", "s3://user@bucket/x", "s3://[::1]/x", "s3://bucket%2f..%2fx/y"],
)  # fmt: skip
def test_addresses_have_a_form(faithful: Bucket, url: str) -> None:
    assert "s3://BUCKET/PREFIX" in faithful.refusal(url)


def test_wrong_credentials_and_a_server_that_is_away_are_told(
    rclone: S3Server, enter: Callable[[S3Server], Bucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = enter(rclone)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "does not let the credentials" in place.refusal()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert "could not be read" in place.refusal()


def test_without_credentials_nothing_is_signed(
    faithful: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faithful.put(make_model(tmp_path / "model"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "does not let" in faithful.refusal()


def test_packed_weights_are_read_only_where_they_are_moved(faithful: Bucket, tmp_path: Path) -> None:
    faithful.put(make_model(tmp_path / "model", quantization_config={"quant_method": "gptq"}))
    assert "quantized" in faithful.refusal()
    assert resolve(faithful.url, replace(faithful.policy, quantized=True)).kind == "s3"


def test_a_stream_is_read_forwards_and_again_from_the_beginning() -> None:
    opened_times = 0

    def chunks() -> Iterator[memoryview]:
        nonlocal opened_times
        opened_times += 1
        return iter([memoryview(b"0123"), memoryview(b"456"), memoryview(b"789")])

    stream = bucket._Stream(chunks)
    spans = [(0, 2), (2, 2), (3, 5), (9, 10)]
    assert [b"".join(stream.read(*span)) for span in spans] == [b"01", b"", b"34", b"9"]
    assert opened_times == 1
    assert b"".join(stream.read(1, 8)) == b"1234567"
    assert opened_times == 2

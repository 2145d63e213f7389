"""What counts as the same source."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from trsp_core.errors import ModelRefused
from trsp_core.replay import check_source
from trsp_core.sources import Source, SourcePolicy, resolve
from trsp_core.sources.hashes import content_files, hashed_source


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def gguf(folder: Path, name: str, text: str) -> Source:
    (folder / name).write_text(text)
    return Source(f"gguf:{name}", "gguf", folder / name, "r")


def test_a_single_file_may_have_another_name_but_no_other_bytes(tmp_path: Path) -> None:
    stated = {"source": {"files": hashed_source(gguf(tmp_path, "a.gguf", "bytes"))}}
    assert stated["source"]["files"] == {"a.gguf": {"sha256": hash_of("bytes"), "bytes": 5}}
    check_source(stated, gguf(tmp_path, "b.gguf", "bytes"))
    with pytest.raises(ModelRefused, match=f"c.gguf has the SHA-256 {hash_of('other')}"):
        check_source(stated, gguf(tmp_path, "c.gguf", "other"))


def test_only_what_a_result_is_made_from_counts(tmp_path: Path) -> None:
    from tests.trsp_core.conftest import save_tiny

    folder = save_tiny(tmp_path / "llama", "llama")
    (folder / "training_args.json").write_text("{}")
    source = resolve(str(folder), SourcePolicy())
    names = [path.name for path in content_files(source)]
    assert names == sorted(names)
    assert {"config.json", "model.safetensors", "tokenizer.json", "LICENSE"} <= set(names)
    assert "training_args.json" not in names
    stated = {"source": {"files": hashed_source(source)}}
    (folder / "training_args.json").write_text('{"a": 1}')
    check_source(stated, source)

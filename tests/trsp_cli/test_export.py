"""`trsp export` and `trsp remove` with GGUF files, on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.trsp_cli.conftest import Said
from tests.trsp_core.conftest import tiny_model
from tests.trsp_core.gguf_files import SIZE, save_bpe, values, write_gguf

Trsp = Callable[..., Said]


def test_a_model_is_written_in_the_type_asked_for(trsp: Trsp, here: Path) -> None:
    tiny_model("llama", vocab_size=SIZE).save_pretrained(here / "tiny")
    save_bpe(here / "tiny")
    said = trsp("--json", "export", "tiny", "--out", "out/tiny.gguf", "--type", "q8_0")
    assert said.code == 0, said.err
    assert (said.json["type"], said.json["model"]) == ("q8_0", str(here / "out" / "tiny.gguf"))
    assert "token ids are the same" in said.json["note"]
    assert values(here / "out" / "tiny.gguf")["general.name"] == "tiny"
    again = trsp("export", "tiny", "--out", "out/tiny.gguf")
    assert (again.code, "exists" in again.err) == (2, True)


def test_what_cannot_be_exported_is_refused_with_the_reason(trsp: Trsp, here: Path) -> None:
    said = trsp("export", "llama", "--out", "x.gguf")
    assert (said.code, "MODEL" in said.err, "merges" in said.err) == (2, True, True)
    save_bpe(here / "llama")
    said = trsp("export", "llama", "--out", "x.gguf", "--type", "q2")
    assert said.code == 2
    assert "f16, f32, q8_0" in said.err
    assert not (here / "x.gguf").exists()


def test_layers_leave_a_gguf_file(trsp: Trsp, here: Path) -> None:
    write_gguf(here / "tiny.gguf")
    said = trsp("remove", "gguf:tiny.gguf", "--layers", "1,2", "--out", "cut.gguf")
    assert (said.code, said.out) == (0, f"2 of 4 layers removed: {here / 'cut.gguf'}\n")
    assert values(here / "cut.gguf")["trsp.kept_layers"] == [0, 3]
    for wrong, words in (
        (("gguf:tiny.gguf", "--layers", "4"), "0 to 3"),
        (("gguf:absent.gguf", "--layers", "1"), "is no file"),
        (("llama", "--layers", "1"), "becomes a folder"),
    ):
        said = trsp("remove", *wrong, "--out", "other.gguf")
        assert (said.code, words in said.err) == (2, True), said.err
        assert not (here / "other.gguf").exists()

"""One contract for every registered set, and what each kind refuses."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from trsp_core.calibration.base import Split, check_text, open_set
from trsp_core.calibration.hub import HubSet
from trsp_core.errors import CalibrationRefused
from trsp_core.registry import CALIBRATION_SETS
from trsp_core.sets import SetReference, parse_sets
from trsp_core.sources import SourcePolicy, UploadedText
from trsp_core.sources.policy import HUB_SWITCH

TEXTS = ["First document.\nTwo lines.", "Second: naïve Žluťoučký, 日本語.", "Third."]
SPLITS: tuple[Split, ...] = ("calibration", "evaluation")


def reference(text: str) -> SetReference:
    return parse_sets(text, "/calibration/set")[0]


def refusal(text: str, policy: SourcePolicy) -> str:
    with pytest.raises(CalibrationRefused) as caught:
        list(open_set(reference(text), policy).documents("calibration"))
    assert all(problem.pointer.startswith("/calibration") for problem in caught.value.problems)
    return str(caught.value)


def write_parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def hub_copies(tmp_path: Path) -> SourcePolicy:
    """A policy that points to local folders of the hub sets' form."""
    root = tmp_path / "sets"
    numbered = [f"row {number}" for number in range(1200)]
    for split in ("train", "test"):
        lines = ["", " = Title = \n", f"{split} text\n"]
        write_parquet(root / "wikitext2" / f"{split}-00000-of-00001.parquet", text=lines)
        write_parquet(root / "ptb" / f"{split}.parquet", sentence=[f"{split} one", "two <unk>"])
    (root / "c4").mkdir()
    for split in ("train", "validation"):
        with gzip.open(root / "c4" / f"{split}.00000.json.gz", "wt") as file:
            file.writelines(json.dumps({"text": f"{split} {row}", "url": ""}) + "\n" for row in numbered)
    rows = [{"instruction": f"do {n}", "input": "x" * (n % 2), "output": f"done {n}"} for n in range(8)]
    (root / "alpaca").mkdir()
    write_lines(root / "alpaca" / "train.jsonl", *rows)
    return SourcePolicy(cache_dir=tmp_path / "cache", dataset_root=root)


@pytest.fixture(params=list(CALIBRATION_SETS))
def any_set(request: pytest.FixtureRequest, hub_copies: SourcePolicy, tmp_path: Path) -> Any:
    """Every registered set, on something it can read."""
    files = {
        "text": lambda path: path.write_text("\n".join(TEXTS)),
        "jsonl": lambda path: write_lines(path, *({"text": text} for text in TEXTS)),
        "parquet": lambda path: write_parquet(path, text=TEXTS),
    }
    name = request.param
    if name == "upload":
        path = write_lines(tmp_path / "file", *({"text": text} for text in TEXTS))
        uploads = {"cal_1": UploadedText("jsonl", path.stat().st_size, path)}
        return open_set(reference("upload:cal_1"), replace(hub_copies, uploads=uploads))
    if CALIBRATION_SETS[name].argument:
        files[name](tmp_path / "file")
        name = f"{name}:{tmp_path / 'file'}"
    return open_set(reference(name), hub_copies)


# The contract


@pytest.mark.parametrize("split", SPLITS)
def test_every_set_gives_the_same_texts_twice(any_set: Any, split: Split) -> None:
    first = list(any_set.documents(split))
    assert any(text.strip() for text in first)
    assert all(isinstance(text, str) for text in first)
    assert list(any_set.documents(split)) == first


def test_every_set_says_whether_its_splits_differ(any_set: Any) -> None:
    calibration, evaluation = (list(any_set.documents(split)) for split in SPLITS)
    assert any_set.held_out == (calibration != evaluation)
    assert isinstance(any_set.separator, str)


def test_every_set_can_be_checked_cheaply(any_set: Any) -> None:
    any_set.check(1)


def test_checks_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("words " * 10)
    code = (
        "import sys; from trsp_core.calibration.base import check_text; from trsp_core.sets import parse_sets; "
        "from trsp_core.sources import SourcePolicy; "
        f"[check_text(r, 8, SourcePolicy()) for r in parse_sets('python-docs+text:{tmp_path}/t.txt', '/x')]; "
        "assert not {'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Uploads


def test_an_upload_is_known_to_its_service_only(policy: SourcePolicy) -> None:
    assert "upload:cal_9 is no text that this service has" in refusal("upload:cal_9", policy)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "cal_1/../cal_1"])
def test_an_upload_is_never_looked_for_on_the_disk(policy: SourcePolicy, tmp_path: Path, name: str) -> None:
    path = write_lines(tmp_path / "cal_1", {"text": "x"})
    known = replace(policy, uploads={"cal_1": UploadedText("jsonl", path.stat().st_size, path)})
    assert "is no text that this service has" in refusal(f"upload:{name}", known)


def test_an_upload_can_be_checked_without_its_file(policy: SourcePolicy) -> None:
    known = replace(policy, uploads={"cal_1": UploadedText("text", 100)})
    check_text(reference("upload:cal_1"), 100, known)
    with pytest.raises(CalibrationRefused, match="has 100 bytes, too few for one window of 101 tokens"):
        check_text(reference("upload:cal_1"), 101, known)


def test_an_upload_is_read_by_its_kind_wherever_it_lies(policy: SourcePolicy, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "elsewhere", body=TEXTS)
    known = {"cal_1": UploadedText("parquet", path.stat().st_size, path)}
    narrow = replace(policy, roots=(tmp_path / "nothing",), uploads=known)
    assert list(open_set(reference("upload:cal_1#body"), narrow).documents("calibration")) == TEXTS
    assert "has no field 'text'; it has body" in refusal("upload:cal_1", narrow)


# Python's documentation


def test_python_docs_hold_out_every_fourth_topic(policy: SourcePolicy) -> None:
    docs = open_set(reference("python-docs"), policy)
    calibration, evaluation = (list(docs.documents(split)) for split in SPLITS)
    assert not set(calibration) & set(evaluation)
    assert len(evaluation) == (len(calibration) + len(evaluation)) // 4
    assert min(map(len, (calibration, evaluation))) > 10


# Files


def test_text_is_the_file_to_the_byte(tmp_path: Path, policy: SourcePolicy) -> None:
    text = "a\r\nb\n\n 日本" * 400_000
    (tmp_path / "t").write_bytes(b"\xef\xbb\xbf" + text.encode())
    pieces = list(open_set(reference(f"text:{tmp_path}/t"), policy).documents("calibration"))
    assert len(pieces) > 2
    assert "".join(pieces) == text


def test_fields_and_columns(tmp_path: Path, policy: SourcePolicy) -> None:
    write_lines(tmp_path / "f.jsonl", {"body": "one"}, {"body": "two"})
    write_parquet(tmp_path / "f.parquet", body=["one", None, "two"], other=[1, 2, 3])
    for kind in ("jsonl", "parquet"):
        lines = open_set(reference(f"{kind}:{tmp_path}/f.{kind}#body"), policy)
        assert list(lines.documents("calibration")) == ["one", "two"]
        assert lines.separator == "\n\n"


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet"])
def test_missing_and_empty_files_are_refused(kind: str, tmp_path: Path, policy: SourcePolicy) -> None:
    assert "names no file" in refusal(f"{kind}:{tmp_path}/absent", policy)
    assert "names no file" in refusal(f"{kind}:{tmp_path}", policy)
    (tmp_path / "empty").touch()
    assert "empty" in refusal(f"{kind}:{tmp_path}/empty", policy)


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet"])
def test_files_outside_the_roots_are_refused(kind: str, tmp_path: Path) -> None:
    policy = SourcePolicy(roots=(tmp_path / "root",), cache_dir=tmp_path)
    assert "outside" in refusal(f"{kind}:/etc/passwd", policy)
    assert "outside" in refusal(f"{kind}:{tmp_path}/root/../x", policy)
    with pytest.raises(CalibrationRefused, match="outside"):
        check_text(reference(f"{kind}:/etc/passwd"), 8, policy)


@pytest.mark.parametrize("place", [0, 3, 1024 * 1024 - 1, 1024 * 1024 + 5])
def test_the_byte_that_is_no_utf8_is_named(place: int, tmp_path: Path, policy: SourcePolicy) -> None:
    (tmp_path / "t").write_bytes(b"a" * place + b"\xff" + b"b" * 10)
    assert f"offset {place} " in refusal(f"text:{tmp_path}/t", policy)


def test_a_character_cut_at_the_end_is_named(tmp_path: Path, policy: SourcePolicy) -> None:
    (tmp_path / "t").write_bytes(b"abc\xe6\x97")
    assert "offset 3 " in refusal(f"text:{tmp_path}/t", policy)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a"', "line 2 is no JSON"),
        ('["a"]', "line 2 is no JSON object"),
        ('{"txt": "a"}', "Did you mean 'txt'?"),
        ('{"text": 3}', "line 2 has no text in 'text' but int"),
        ("[" * 100_000, "line 2 is no JSON"),
    ],
)
def test_bad_lines_are_named(line: str, said: str, tmp_path: Path, policy: SourcePolicy) -> None:
    (tmp_path / "f").write_text('{"text": "fine"}\n' + line + "\n")
    assert said in refusal(f"jsonl:{tmp_path}/f", policy)


def test_a_line_that_is_no_utf8_is_named(tmp_path: Path, policy: SourcePolicy) -> None:
    (tmp_path / "f").write_bytes(b'{"text": "fine"}\n{"text": "\xff"}\n')
    assert "offset 27 " in refusal(f"jsonl:{tmp_path}/f", policy)


def test_parquet_columns_are_named(tmp_path: Path, policy: SourcePolicy) -> None:
    path = write_parquet(tmp_path / "f", content=["a"], number=[1])
    assert "it has content, number" in refusal(f"parquet:{path}", policy)
    assert "Did you mean 'content'?" in refusal(f"parquet:{path}#contents", policy)
    assert "holds int64, not text" in refusal(f"parquet:{path}#number", policy)
    path.write_text("no parquet at all")
    assert "as parquet" in refusal(f"parquet:{path}", policy)


def test_text_with_fewer_bytes_than_a_window_has_tokens(tmp_path: Path, policy: SourcePolicy) -> None:
    (tmp_path / "t").write_text("a" * 99)
    check_text(reference(f"text:{tmp_path}/t"), 99, policy)
    with pytest.raises(CalibrationRefused, match="99 bytes, too few for one window of 100 tokens"):
        check_text(reference(f"text:{tmp_path}/t"), 100, policy)
    with pytest.raises(CalibrationRefused, match="fewer than a window's"):
        check_text(reference("python-docs"), 10_000_000, policy)


def test_a_refusal_points_to_the_field_that_asked(tmp_path: Path, policy: SourcePolicy) -> None:
    with pytest.raises(CalibrationRefused) as caught:
        check_text(reference(f"text:{tmp_path}/t"), 8, policy, pointer="/evaluation/perplexity/1")
    assert [problem.pointer for problem in caught.value.problems] == ["/evaluation/perplexity/1"]


# The hub's sets, on local folders of the same form


@pytest.mark.parametrize(
    ("name", "split", "joined"),
    [
        ("wikitext2", "calibration", "\n\n = Title = \n\n\ntrain text\n"),
        ("wikitext2", "evaluation", "\n\n = Title = \n\n\ntest text\n"),
        ("ptb", "evaluation", "test one two <unk>"),
        ("alpaca", "evaluation", "do 3\nx\ndone 3\n\ndo 7\nx\ndone 7"),
    ],
)
def test_hub_sets_join_by_custom(name: str, split: Split, joined: str, hub_copies: SourcePolicy) -> None:
    text_set = open_set(reference(name), hub_copies)
    assert text_set.separator.join(text_set.documents(split)) == joined


def test_alpaca_leaves_out_empty_inputs_and_keeps_splits_apart(hub_copies: SourcePolicy) -> None:
    rows = list(open_set(reference("alpaca"), hub_copies).documents("calibration"))
    assert rows[:2] == ["do 0\ndone 0", "do 1\nx\ndone 1"]
    assert len(rows) == 6


def test_c4_measures_on_its_first_1100_documents(hub_copies: SourcePolicy) -> None:
    c4 = open_set(reference("c4"), hub_copies)
    evaluation = list(c4.documents("evaluation"))
    assert len(evaluation) == 1100
    assert evaluation[0] == "validation row 0"
    assert next(iter(c4.documents("calibration"))) == "train row 0"


@pytest.mark.parametrize("name", [name for name, entry in CALIBRATION_SETS.items() if entry.needs_hub])
def test_without_the_hub_the_switch_is_named(name: str, policy: SourcePolicy) -> None:
    assert f"{HUB_SWITCH}=1" in refusal(name, policy)
    with pytest.raises(CalibrationRefused, match="TRSP_DATASETS"):
        check_text(reference(name), 8, policy)


def test_a_local_folder_without_the_split_is_refused(hub_copies: SourcePolicy) -> None:
    root = hub_copies.dataset_root
    assert root is not None
    (root / "ptb" / "train.parquet").unlink()
    assert "needs train*.parquet" in refusal("ptb", hub_copies)


def test_a_local_folder_with_other_columns_is_refused(hub_copies: SourcePolicy) -> None:
    root = hub_copies.dataset_root
    assert root is not None
    write_parquet(root / "ptb" / "train.parquet", sentences=["a"])
    assert "Did you mean 'sentences'?" in refusal("ptb", hub_copies)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wikitext2", ("Salesforce/wikitext", "wikitext-2-raw-v1", "train", False, None)),
        ("ptb", ("ptb-text-only/ptb_text_only", None, "train", False, None)),
        ("c4", ("allenai/c4", None, "train", True, {"train": "en/c4-train.00000-of-01024.json.gz"})),
        ("alpaca", ("tatsu-lab/alpaca", None, "train", False, None)),
    ],
)
def test_what_the_hub_is_asked_for(
    name: str, expected: tuple[object, ...], policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def load(dataset: str, configuration: str | None, **options: Any) -> list[dict[str, str]]:
        asked.append(
            (dataset, configuration, options["split"], options["streaming"], options.get("data_files"))
        )
        columns = ("text", "sentence", "instruction", "input", "output")
        return [dict.fromkeys(columns, "words")]

    monkeypatch.setattr(datasets, "load_dataset", load)
    allowed = SourcePolicy(hub_enabled=True, cache_dir=policy.cache_dir, dataset_root=None)
    assert list(open_set(reference(name), allowed).documents("calibration"))
    assert asked == [expected]


def test_a_hub_that_fails_is_said(policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **options: Any) -> Any:
        raise ConnectionError("no route to the hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load)
    allowed = SourcePolicy(hub_enabled=True, cache_dir=policy.cache_dir, dataset_root=None)
    assert refusal("ptb", allowed).endswith("could not be had from the hub: no route to the hub")


def test_every_hub_set_is_named_as_registered() -> None:
    named = {cls.name for cls in HubSet.__subclasses__()}
    assert named == {name for name, entry in CALIBRATION_SETS.items() if entry.needs_hub}

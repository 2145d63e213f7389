"""Windows: drawn without overlap, in equal parts, the same for the same seed; cut by the protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trsp_core.conftest import save_tokenizer
from trsp_core.calibration import files, windows
from trsp_core.calibration.windows import CalibrationBatch, calibration_windows, evaluation_windows
from trsp_core.checkpoint import load_tokenizer
from trsp_core.errors import CalibrationRefused
from trsp_core.sets import parse_sets
from trsp_core.sources import SourcePolicy

Draw = Callable[..., CalibrationBatch]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return load_tokenizer(folder)


@pytest.fixture
def draw(tokenizer: Any, policy: SourcePolicy) -> Draw:
    def drawn(sets: str, *, sequences: int = 8, length: int = 16, seed: int = 0) -> CalibrationBatch:
        references = parse_sets(sets, "/calibration/set")
        return calibration_windows(
            references, tokenizer, sequences=sequences, length=length, seed=seed, policy=policy
        )

    return drawn


def numbered(path: Path, words: int) -> str:
    """Write words of four bytes, so that a window shows where it was taken."""
    path.write_text("".join(f"{word:03d} " for word in range(words)))
    return f"text:{path}"


def places(batch: CalibrationBatch, text: str, tokenizer: Any) -> list[int]:
    found = [text.find(tokenizer.decode(row)) for row in batch.input_ids]
    assert -1 not in found
    return found


def test_shape_type_hash_and_sources(draw: Draw, tmp_path: Path) -> None:
    batch = draw(numbered(tmp_path / "t", 500))
    assert batch.input_ids.shape == (8, 16)
    assert batch.input_ids.dtype == torch.int64
    expected = hashlib.sha256(batch.input_ids.numpy().astype("<i8").tobytes()).hexdigest()
    assert batch.sha256 == expected
    assert set(batch.sources) == {f"text:{tmp_path}/t"}


def test_same_seed_same_windows_whatever_the_global_state(draw: Draw, tmp_path: Path) -> None:
    name = numbered(tmp_path / "t", 500)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw(name, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(draw(name, seed=3).input_ids, first.input_ids)
    assert not torch.equal(draw(name, seed=4).input_ids, first.input_ids)


@pytest.mark.parametrize("sequences", [1, 10, 61, 62])
def test_windows_do_not_overlap_while_the_text_suffices(
    sequences: int, draw: Draw, tmp_path: Path, tokenizer: Any
) -> None:
    name = numbered(tmp_path / "t", 250)
    starts = sorted(places(draw(name, sequences=sequences), (tmp_path / "t").read_text(), tokenizer))
    assert all(later - earlier >= 16 for earlier, later in pairwise(starts))


def test_a_short_text_is_passed_through_again_elsewhere(draw: Draw, tmp_path: Path, tokenizer: Any) -> None:
    name = numbered(tmp_path / "t", 10)
    starts = places(draw(name, sequences=12), (tmp_path / "t").read_text(), tokenizer)
    assert len(set(starts)) > 4


def test_a_text_of_exactly_one_window(draw: Draw, tmp_path: Path) -> None:
    batch = draw(numbered(tmp_path / "t", 4), sequences=3)
    assert len({tuple(row.tolist()) for row in batch.input_ids}) == 1


def test_places_are_spread_over_the_whole_text(draw: Draw, tmp_path: Path, tokenizer: Any) -> None:
    name = numbered(tmp_path / "t", 900)
    text = (tmp_path / "t").read_text()
    starts = [
        place for seed in range(60) for place in places(draw(name, sequences=2, seed=seed), text, tokenizer)
    ]
    quarters = [
        sum(len(text) * q // 4 <= start < len(text) * (q + 1) // 4 for start in starts) for q in range(4)
    ]
    assert min(quarters) > 15


def test_joined_sets_give_equal_parts(draw: Draw, tmp_path: Path) -> None:
    one, two = numbered(tmp_path / "1", 300), numbered(tmp_path / "2", 300)
    batch = draw(f"{one}+{two}", sequences=5)
    assert batch.sources == (one, one, one, two, two)
    assert draw(f"{one}+{two}", sequences=1).sources == (one,)


def test_calibration_windows_have_no_special_tokens(draw: Draw) -> None:
    assert int(draw("python-docs", length=64).input_ids.max()) < 256


def test_pieces_give_the_text_as_a_whole_does(
    draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").write_text("words and more " * 5_000)
    whole = draw(f"text:{tmp_path}/t")
    monkeypatch.setattr(files, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(windows, "_PIECE_CHARACTERS", 10)
    assert draw(f"text:{tmp_path}/t").sha256 == whole.sha256


@pytest.mark.parametrize(
    ("content", "said"), [(" \n\n", "has no text"), ("a" * 15, "has 15 tokens, fewer than")]
)
def test_texts_too_short_are_refused(
    content: str, said: str, draw: Draw, tmp_path: Path, tokenizer: Any, policy: SourcePolicy
) -> None:
    (tmp_path / "t").write_text(content)
    with pytest.raises(CalibrationRefused, match=said):
        draw(f"text:{tmp_path}/t")
    reference = parse_sets(f"text:{tmp_path}/t", "/x")[0]
    with pytest.raises(CalibrationRefused, match=said):
        evaluation_windows(reference, tokenizer, length=16, limit=None, policy=policy)


def test_evaluation_is_cut_one_after_the_other(tmp_path: Path, tokenizer: Any, policy: SourcePolicy) -> None:
    name = numbered(tmp_path / "t", 101)
    reference = parse_sets(name, "/x")[0]
    cut = evaluation_windows(reference, tokenizer, length=16, limit=None, policy=policy)
    assert cut.input_ids.shape == (25, 16)
    assert tokenizer.decode(cut.input_ids.flatten()) == (tmp_path / "t").read_text()[:400]
    assert (cut.name, cut.held_out) == (name, False)
    first = evaluation_windows(reference, tokenizer, length=16, limit=3, policy=policy)
    assert torch.equal(first.input_ids, cut.input_ids[:3])
    assert first.sha256 != cut.sha256


def test_documents_are_joined_by_the_separator(tmp_path: Path, tokenizer: Any, policy: SourcePolicy) -> None:
    (tmp_path / "t").write_text('{"text": "one"}\n{"text": "two"}\n')
    reference = parse_sets(f"jsonl:{tmp_path}/t", "/x")[0]
    cut = evaluation_windows(reference, tokenizer, length=8, limit=None, policy=policy)
    assert tokenizer.decode(cut.input_ids[0]) == "one\n\ntwo"


def test_special_tokens_stand_once_at_the_start(tmp_path: Path, tokenizer: Any, policy: SourcePolicy) -> None:
    from tokenizers.processors import TemplateProcessing

    numbered(tmp_path / "t", 100)
    reference = parse_sets(f"text:{tmp_path}/t", "/x")[0]
    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    try:
        ids = evaluation_windows(reference, tokenizer, length=16, limit=None, policy=policy).input_ids
        drawn = calibration_windows([reference], tokenizer, sequences=4, length=16, seed=0, policy=policy)
    finally:
        backend.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    assert ids[0, 0] == 256
    assert (ids == 256).sum() == 1
    assert not (drawn.input_ids == 256).any()


def test_a_limit_reads_only_the_start_and_changes_nothing(
    tmp_path: Path, tokenizer: Any, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").write_text("words and more " * 5_000)
    monkeypatch.setattr(files, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(windows, "_PIECE_CHARACTERS", 1000)
    reference = parse_sets(f"text:{tmp_path}/t", "/x")[0]
    whole = evaluation_windows(reference, tokenizer, length=64, limit=None, policy=policy)
    sizes: list[int] = []
    tokenize = windows._tokenize
    monkeypatch.setattr(
        windows,
        "_tokenize",
        lambda t, text, special: sizes.append(len(text)) or tokenize(t, text, special=special),
    )
    part = evaluation_windows(reference, tokenizer, length=64, limit=5, policy=policy)
    assert torch.equal(part.input_ids, whole.input_ids[:5])
    assert max(sizes) < 7_000

"""Token windows out of texts: drawn for calibration, cut one after the other for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from trsp_core.calibration.base import Split, TextSet, open_set, refused
from trsp_core.quiet import quiet_transformers
from trsp_core.sets import SetReference
from trsp_core.sources import SourcePolicy

MOST_CHARACTERS = 64_000_000
_PIECE_CHARACTERS = 1_000_000
_GENEROUS_CHARACTERS_A_TOKEN = 16


@dataclass(frozen=True, slots=True)
class CalibrationBatch:
    """What a method learns from.

    Attributes:
        input_ids: Token ids, int64, `[sequences, length]`.
        sha256: Hash of the ids as little-endian 64-bit integers.
        sources: The set that each sequence comes from, by name.
    """

    input_ids: torch.Tensor
    sha256: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvaluationWindows:
    """What perplexity is measured on.

    Attributes:
        name: The set.
        input_ids: Token ids, int64, `[windows, length]`.
        sha256: Hash of the ids as little-endian 64-bit integers.
        held_out: Whether the set keeps this text apart from its calibration text.
    """

    name: str
    input_ids: torch.Tensor
    sha256: str
    held_out: bool


def hash_ids(input_ids: torch.Tensor) -> str:
    """Return the SHA-256 of token ids as little-endian 64-bit integers."""
    return hashlib.sha256(input_ids.to(torch.int64).contiguous().numpy().astype("<i8").tobytes()).hexdigest()


def calibration_windows(
    references: Sequence[SetReference],
    tokenizer: PreTrainedTokenizerBase,
    *,
    sequences: int,
    length: int,
    seed: int,
    policy: SourcePolicy,
) -> CalibrationBatch:
    """Draw windows at random places of the calibration splits.

    Joined sets give equal parts; where these do not come out even the first sets give one more. As long as
    a text suffices its windows do not overlap; after that it is passed through again at other places.
    Of a text that is longer, the first 64 million characters are drawn from.

    Args:
        references: The sets.
        tokenizer: The model's.
        sequences: Windows.
        length: Tokens of a window.
        seed: Seed of the draw.
        policy: Which files and whether the hub may be used.

    Raises:
        CalibrationRefused: If a text is empty, cannot be read, or is shorter than one window.
    """
    generator = torch.Generator().manual_seed(seed)
    parts, sources = [], []
    for place, reference in enumerate(references):
        count = sequences // len(references) + (place < sequences % len(references))
        if count == 0:
            continue
        ids = _calibration_tokens(open_set(reference, policy), tokenizer)
        _check_length(ids, length, str(reference))
        parts.append(_draw(ids, count, length, generator))
        sources += [str(reference)] * count
    input_ids = torch.cat(parts)
    return CalibrationBatch(input_ids, hash_ids(input_ids), tuple(sources))


def _draw(ids: torch.Tensor, count: int, length: int, generator: torch.Generator) -> torch.Tensor:
    """Take `count` windows of a text `[tokens]`; returns `[count, length]`."""
    starts: list[int] = []
    while len(starts) < count:
        starts += _starts(len(ids), min(count - len(starts), len(ids) // length), length, generator)
    return torch.stack([ids[start : start + length] for start in starts])


def _starts(tokens: int, count: int, length: int, generator: torch.Generator) -> list[int]:
    """Draw `count` places whose windows do not overlap, in random order.

    The tokens that no window takes are shared out as gaps before the windows; drawing the gaps' bounds
    uniformly makes every arrangement equally likely.
    """
    free = tokens - count * length
    gaps = torch.randint(free + 1, (count,), generator=generator).sort().values
    order = torch.randperm(count, generator=generator)
    return [int(gaps[place]) + int(place) * length for place in order]


def evaluation_windows(
    reference: SetReference,
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    limit: int | None,
    policy: SourcePolicy,
) -> EvaluationWindows:
    """Cut the evaluation split into windows, as those who publish perplexities do.

    The documents are joined by the set's separator, tokenized as one text with the tokenizer's own special
    tokens once at its start, and cut into windows that do not overlap; the tail is dropped.

    Args:
        reference: The set.
        tokenizer: The model's.
        length: Tokens of a window.
        limit: Most windows, from the start; None for all.
        policy: Which files and whether the hub may be used.

    Raises:
        CalibrationRefused: If the text is empty, cannot be read, or is shorter than one window.
    """
    text_set = open_set(reference, policy)
    ids = _evaluation_tokens(text_set, tokenizer, None if limit is None else limit * length)
    _check_length(ids, length, str(reference))
    windows = len(ids) // length if limit is None else min(limit, len(ids) // length)
    input_ids = ids[: windows * length].view(windows, length).clone()
    return EvaluationWindows(str(reference), input_ids, hash_ids(input_ids), text_set.held_out)


def _calibration_tokens(text_set: TextSet, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Tokenize the calibration split `[tokens]` in pieces of a million characters, to bound the memory."""
    pieces = _pieces(text_set, _PIECE_CHARACTERS)
    return torch.cat([_tokenize(tokenizer, piece, special=False) for piece in pieces])


def _pieces(text_set: TextSet, characters: int) -> Iterator[str]:
    """Yield the calibration split, up to its bound, in pieces of at least so many characters but for the last."""
    piece, size, read = [], 0, 0
    for text in _joined(text_set, "calibration"):
        piece.append(text)
        size += len(text)
        read += len(text)
        if size >= characters:
            yield "".join(piece)
            piece, size = [], 0
        if read >= MOST_CHARACTERS:
            break
    yield "".join(piece)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """How much text a set has for a tokenizer.

    Attributes:
        tokens, characters: Of the calibration split.
        whole: Whether that is all of it; else only as much was read as calibration draws from.
    """

    tokens: int
    characters: int
    whole: bool


def count_tokens(text_set: TextSet, tokenizer: PreTrainedTokenizerBase) -> TokenCount:
    """Count the tokens that `calibration_windows` could draw from, piece by piece.

    Raises:
        CalibrationRefused: If the text cannot be read.
    """
    tokens = characters = 0
    for piece in _pieces(text_set, _PIECE_CHARACTERS):
        tokens += len(_tokenize(tokenizer, piece, special=False))
        characters += len(piece)
    return TokenCount(tokens, characters, characters < MOST_CHARACTERS)


def _evaluation_tokens(
    text_set: TextSet, tokenizer: PreTrainedTokenizerBase, enough: int | None
) -> torch.Tensor:
    """Tokenize the evaluation split `[tokens]` as one text; only its start where `enough` tokens suffice."""
    budget = MOST_CHARACTERS
    if enough is not None:
        budget = min(budget, max(_PIECE_CHARACTERS, enough * _GENEROUS_CHARACTERS_A_TOKEN))
    while True:
        text, whole = _start(text_set, budget)
        ids = _tokenize(tokenizer, text, special=True)
        if whole or budget >= MOST_CHARACTERS or (enough is not None and len(ids) > enough):
            return ids
        budget = min(MOST_CHARACTERS, 4 * budget)


def _start(text_set: TextSet, characters: int) -> tuple[str, bool]:
    """Return at least that many characters of the evaluation split, and whether they are all of it."""
    parts, size = [], 0
    for text in _joined(text_set, "evaluation"):
        parts.append(text)
        size += len(text)
        if size >= characters:
            return "".join(parts), False
    return "".join(parts), True


def _joined(text_set: TextSet, split: Split) -> Iterator[str]:
    """Yield the documents with the separators between them."""
    for place, text in enumerate(text_set.documents(split)):
        yield text_set.separator + text if place else text


def _tokenize(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> torch.Tensor:
    if not text.strip():
        return torch.empty(0, dtype=torch.int64)
    with quiet_transformers():
        return torch.tensor(tokenizer(text, add_special_tokens=special)["input_ids"], dtype=torch.int64)


def _check_length(ids: torch.Tensor, length: int, name: str) -> None:
    if len(ids) == 0:
        raise refused(f"{name} has no text.", name)
    if len(ids) < length:
        message = f"{name} has {len(ids)} tokens, fewer than one window of {length}; take a shorter window."
        raise refused(message, name)

"""A fast tokenizer's `tokenizer.json` as GGUF tells it: tokens, their kinds, merges, the splitting rule. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trsp_core.errors import ModelRefused, Problem
from trsp_core.sources.validate import read_json

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens, by the format's numbers."""
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_MOST_PADDING = 100_000
_FILE = "tokenizer.json"
SPLITS: Mapping[str, str] = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
}
"""Splitting expressions of published tokenizers, and the name that GGUF has for each."""


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """A vocabulary in the format's terms.

    Attributes:
        model: `gpt2` for byte-level BPE, `llama` for SentencePiece's BPE with byte fallback.
        split: The format's name of the rule by which text is split before merging.
        tokens: By id, padded to the model's vocabulary.
        kinds: Kind of each token.
        scores: Of each token, the higher the earlier it is merged; empty for `gpt2`.
        merges: Pairs of tokens in order of merging.
        space_prefix: Whether a space is put before the text; None where the model does not ask.
    """

    model: str
    split: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    scores: tuple[float, ...]
    merges: tuple[tuple[str, str], ...]
    space_prefix: bool | None


def read_vocabulary(folder: Path, size: int) -> GgufVocabulary:
    """Read a folder's vocabulary.

    Args:
        folder: A model folder.
        size: Rows of the model's embedding.

    Raises:
        ModelRefused: If there is no `tokenizer.json`, or one that GGUF has no words for, with the reason.
    """
    if not (folder / _FILE).is_file():
        raise _refused(f"gguf is written from {_FILE}, which {folder} does not have.")
    try:
        return _vocabulary(read_json(folder / _FILE), size)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refused(f"{_FILE} is no tokenizer that is understood: {error!r}.") from error


def _vocabulary(data: Mapping[str, Any], size: int) -> GgufVocabulary:
    model = data["model"]
    if model.get("type") != "BPE" or not model.get("merges"):
        raise _refused(f"gguf is written for BPE tokenizers with merges; {_FILE} has {model.get('type')!r}.")
    table = {**model["vocab"], **{item["content"]: item["id"] for item in _added(data)}}
    tokens = _by_id(table, size)
    merges = tuple(_pair(merge) for merge in model["merges"])
    kinds = _kinds(tokens, data)
    if model.get("byte_fallback"):
        scores = _scores(tokens, merges)
        return GgufVocabulary("llama", "default", tokens, kinds, scores, merges, _space_prefix(data))
    return GgufVocabulary("gpt2", _split(data), tokens, kinds, (), merges, None)


def _added(data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return data.get("added_tokens") or ()


def _by_id(table: Mapping[str, int], size: int) -> tuple[str, ...]:
    if size - len(table) > _MOST_PADDING:
        raise _refused(
            f"the model's vocabulary is {size}, the tokenizer's {len(table)}: one of them is wrong."
        )
    tokens = [f"[PAD{number}]" for number in range(size)]
    for token, number in table.items():
        if not 0 <= number < size:
            raise _refused(f"token {token!r} has the id {number}; the model's vocabulary ends at {size - 1}.")
        tokens[number] = token
    if len(set(tokens)) != size:
        raise _refused(f"{_FILE} names a token twice.")
    return tuple(tokens)


def _pair(merge: Any) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    if " " in first or " " in second:
        raise _refused(f"{_FILE} merges tokens with spaces, which gguf separates merges by.")
    return first, second


def _kinds(tokens: Sequence[str], data: Mapping[str, Any]) -> tuple[int, ...]:
    added = {item["content"]: CONTROL if item.get("special") else USER_DEFINED for item in _added(data)}
    model, unknown = data["model"], data["model"].get("unk_token")
    known, fallback = model["vocab"], model.get("byte_fallback")

    def kind(token: str) -> int:
        if fallback and token == unknown:
            return UNKNOWN
        if token in added:
            return added[token]
        if fallback and _BYTE_TOKEN.fullmatch(token):
            return BYTE
        return NORMAL if token in known else UNUSED

    return tuple(map(kind, tokens))


def _scores(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> tuple[float, ...]:
    """Return scores that order the merges as their list does; what no merge makes comes last."""
    ranks: dict[str, float] = {}
    for rank, (first, second) in enumerate(merges):
        ranks.setdefault(first + second, -float(rank))
    return tuple(ranks.get(token, -float(len(merges))) for token in tokens)


def _steps(value: Any, key: str) -> list[Mapping[str, Any]]:
    """Return the steps of a normalizer or pre-tokenizer, alone or a sequence of them."""
    if value is None:
        return []
    return list(value[key]) if value.get("type") == "Sequence" else [value]


def _split(data: Mapping[str, Any]) -> str:
    """Return the format's name of a byte-level tokenizer's splitting rule."""
    normalizers = [step["type"] for step in _steps(data.get("normalizer"), "normalizers")]
    steps = _steps(data.get("pre_tokenizer"), "pretokenizers")
    names = [step["type"] for step in steps]
    if normalizers not in ([], ["NFC"]) or not steps or names[-1] != "ByteLevel":
        raise _refused(f"gguf has no name for a tokenizer that normalizes {normalizers} and splits {names}.")
    if steps[-1].get("add_prefix_space"):
        raise _refused("gguf has no name for a byte-level tokenizer that puts a space before the text.")
    return _split_name(steps)


def _split_name(steps: Sequence[Mapping[str, Any]]) -> str:
    regex = steps[-1].get("use_regex", True)
    if len(steps) == 1 and regex:
        return "gpt-2"
    first = steps[0]
    if len(steps) == 2 and first["type"] == "Digits" and first.get("individual_digits") and regex:
        return "smollm"
    pattern = str((first.get("pattern") or {}).get("Regex"))
    if len(steps) == 2 and pattern in SPLITS and not regex and first.get("behavior") == "Isolated":
        return SPLITS[pattern]
    raise _refused(f"gguf has no name known here for the splitting rule {list(steps)}.")


def _space_prefix(data: Mapping[str, Any]) -> bool:
    """Whether a SentencePiece tokenizer puts a space before the text."""
    for step in _steps(data.get("normalizer"), "normalizers"):
        if step["type"] == "Prepend":
            return True
    for step in _steps(data.get("pre_tokenizer"), "pretokenizers"):
        if step["type"] == "Metaspace":
            return bool(step.get("prepend_scheme", "always") != "never")
    return False


def _refused(message: str) -> ModelRefused:
    return ModelRefused(Problem("/export/formats", message))

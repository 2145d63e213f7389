"""A model folder as one GGUF file, written tensor by tensor and proved by loading it with transformers."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import AutoConfig, PreTrainedConfig

from trsp_core.architectures import architecture_of
from trsp_core.checkpoint import load_tokenizer
from trsp_core.config import Export
from trsp_core.errors import ModelRefused, Problem, RoundTripFailed
from trsp_core.export.base import Exported, Origin
from trsp_core.export.gguf_check import TEXTS, GgufCheck, check_gguf, gguf_tokenizer
from trsp_core.export.gguf_models import POINTER, family_of
from trsp_core.export.gguf_tensors import KINDS, MadeTensor, StoredTensor, rotation_factors, stored_tensors
from trsp_core.export.gguf_vocabulary import GgufVocabulary, read_vocabulary
from trsp_core.files import check_room, file_written_whole, storage_errors
from trsp_core.gguf_surgery import KEPT_LAYERS, SOURCE_LAYERS
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.quiet import quiet_transformers

_FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
Tensor = StoredTensor | MadeTensor
_HEADER_BYTES = 64 * 1024 * 1024


class GgufExport:
    """Writes `model-TYPE.gguf`."""

    def check(self, folder: Path) -> None:
        """Refuse a folder that cannot be written, or whose tokenizer would not give the same ids again.

        Raises:
            ModelRefused: With the reason.
        """
        family_of(full_config(folder).to_dict())
        with tempfile.TemporaryDirectory(prefix="trsp-gguf-") as place:
            path = Path(place) / "vocabulary.gguf"
            write_gguf(folder, path, "f32", Origin("vocabulary"), tensors=[])
            _check_tokenizer(folder, path)

    def export(
        self, folder: Path, out: Path, options: Export, origin: Origin, *, should_stop: StopFn = never
    ) -> Exported:
        """Write the file into the folder `out` and prove it; see `Exporter.export`."""
        path = out / f"model-{options.gguf_type}.gguf"
        if not path.exists():
            write_gguf(folder, path, options.gguf_type, origin, should_stop=should_stop)
        return Exported(path.name, prove_gguf(folder, path, options.gguf_type))


def prove_gguf(folder: Path, path: Path, kind: str) -> str:
    """Load the file in a fresh process, compare it with the folder, and return a sentence with the figures.

    Raises:
        RoundTripFailed: If it is not the model in the folder, rounded as `kind` rounds. The file is gone
            then, as it is after an interruption.
    """
    try:
        return _proof(check_gguf(folder, path, kind), folder, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _proof(found: GgufCheck, folder: Path, path: Path) -> str:
    if not found.ok:
        raise RoundTripFailed(
            f"{path.name} is not the model in {folder}: logits differ by {found.max_abs_logit_difference:g}"
            f" (allowed {found.tolerance:g}), token ids equal: {found.tokens_equal}"
        )
    how = " with the folder's config, as it reads no rope scaling from GGUF" if found.own_config else ""
    difference = f"{found.max_abs_logit_difference:.2g}"
    return (
        f"{path.name}: loaded again by transformers{how}; logits differ by {difference} from the rounded weights'"
        f" (allowed {found.tolerance:.2g}); rounding changes logits by {found.rounding:.2%} of their size; token ids"
        " are the same"
    )


def full_config(folder: Path) -> PreTrainedConfig:
    """Return a folder's config with every default filled in."""
    with quiet_transformers():
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    return config


def write_gguf(
    folder: Path,
    target: Path,
    kind: str,
    origin: Origin,
    *,
    tensors: Sequence[Tensor] | None = None,
    should_stop: StopFn = never,
) -> None:
    """Write a model folder as a GGUF file, whole or not at all; the peak is a few MiB beside the vocabulary.

    Args:
        folder: A folder that `sources.resolve` accepts.
        target: The file; one that is there is replaced.
        kind: `f32`, `f16` or `q8_0`; vectors stay float32 in each.
        origin: Where the model comes from.
        tensors: What is written; all of the folder's unless given.
        should_stop: Asked after each tensor.

    Raises:
        ModelRefused: If the model cannot be carried.
        NumericalFailure: If a value is too large for float16.
        StorageFull: If the disk has too little room.
        Cancelled: If `should_stop` said so; nothing is left.
    """
    loaded = full_config(folder)
    config = loaded.to_dict()
    family, architecture = family_of(config), architecture_of(config["model_type"])
    vocabulary = read_vocabulary(folder, config["vocab_size"])
    if tensors is None:
        tensors = [
            *rotation_factors(loaded),
            *stored_tensors(folder, architecture, family, config, KINDS[kind]),
        ]
    check_room(target.parent, _HEADER_BYTES + sum(tensor.nbytes for tensor in tensors))
    with storage_errors(target), file_written_whole(target) as temporary:
        writer = gguf.GGUFWriter(temporary, family.architecture)
        _describe(writer, config, kind, origin)
        _add_vocabulary(writer, vocabulary, folder)
        _write(writer, tensors, should_stop)


def _write(writer: Any, tensors: Sequence[Tensor], should_stop: StopFn) -> None:
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, tensor.kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(tensor)
            raise_if_stopped(should_stop)
    finally:
        writer.close()


def _describe(writer: Any, config: Mapping[str, Any], kind: str, origin: Origin) -> None:
    """Add what the config says, under the format's names."""
    heads, width = config["num_attention_heads"], config["hidden_size"]
    head = config.get("head_dim") or width // heads
    writer.add_type("model")
    writer.add_name(origin.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if origin.kept:
        writer.add_array(KEPT_LAYERS, list(origin.kept))
        writer.add_uint32(SOURCE_LAYERS, origin.layers)


def _add_vocabulary(writer: Any, vocabulary: GgufVocabulary, folder: Path) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.split)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.kinds))
    if vocabulary.scores:
        writer.add_token_scores(list(vocabulary.scores))
    if vocabulary.space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.space_prefix)
    with _quiet_gguf():
        special = gguf.SpecialVocab(folder, n_vocab=len(vocabulary.tokens))
        special.merges = [" ".join(merge) for merge in vocabulary.merges]
        special.add_special_token = {"bos": False, "eos": False, **special.add_special_token}
        special.add_to_gguf(writer, quiet=True)


@contextmanager
def _quiet_gguf() -> Iterator[None]:
    """Keep the package from warning of templates for pairs of texts, which no job uses."""
    logger = logging.getLogger("gguf")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check_tokenizer(folder: Path, path: Path) -> None:
    """Refuse a tokenizer that gives other ids once it went through the file.

    Raises:
        ModelRefused: With the first text whose ids differ.
    """
    ours, theirs = load_tokenizer(folder), gguf_tokenizer(path)
    for text in TEXTS:
        if ours(text)["input_ids"] != theirs(text)["input_ids"]:
            message = (
                f"its tokenizer, written to gguf and read by transformers, gives other ids for {text!r}."
            )
            raise ModelRefused(Problem(POINTER, message))

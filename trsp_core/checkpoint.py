"""Models between disk and memory: plain Hugging Face folders, loaded without a second copy, saved whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trsp_core.architectures import architecture_of
from trsp_core.errors import ModelRefused, OutOfMemory, Problem, TrspError
from trsp_core.files import check_room, folder_written_whole
from trsp_core.quiet import quiet_transformers
from trsp_core.scarcity import wants_memory
from trsp_core.skeleton import check_size
from trsp_core.sources.companions import copy_companions
from trsp_core.sources.policy import refused
from trsp_core.sources.validate import CONFIG, read_json


def load_model(folder: Path, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load a causal LM in evaluation mode.

    On a CPU, in the stored precision, the weights are the file itself, mapped copy-on-write: loading adds
    no second copy to the peak, and writing to a weight never changes the file.

    Args:
        folder: A folder that `sources.resolve` accepted and `materialize` returned.
        dtype: Precision of the work.
        device: Where the weights go, tensor by tensor.

    Raises:
        ModelRefused: If the config describes no model, the weights do not fit it, or one is not finite.
        OutOfMemory: If there is too little memory for it.
    """
    options: dict[str, Any] = {} if device.type == "cpu" else {"device_map": {"": device}}
    model = _from_folder(folder, dtype, **options)
    for name, value in model.named_parameters():
        check_finite(name, value)
    return model


def load_skeleton(folder: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """Load a causal LM without its weights, which stay on the meta device, checked as `load_model` checks them.

    Only their names and shapes are read; the other arguments and the errors are those of `load_model`.
    """
    return _from_folder(folder, dtype, device_map={"": "meta"})


def _from_folder(folder: Path, dtype: torch.dtype, **options: Any) -> PreTrainedModel:
    with quiet_transformers(), refusing("the model"):
        check_size(folder)
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation=architecture_of(read_json(folder / CONFIG).get("model_type")).attention,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    model, found = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    _check_loaded(found, folder)
    model.train(False)
    return model


def _check_loaded(found: dict[str, Any], folder: Path) -> None:
    """Refuse a model of which weights were made up or left over."""
    for key, what in (
        ("mismatched_keys", "have another shape than the config describes"),
        ("missing_keys", "are missing from the weight files"),
        ("unexpected_keys", "are not part of the model that the config describes"),
    ):
        names = sorted(str(item[0] if isinstance(item, tuple) else item) for item in found.get(key) or ())
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ModelRefused(Problem("/model", f"{shown} {what}.", str(folder)))


def check_finite(name: str, value: torch.Tensor) -> None:
    """Refuse NaN and infinity in a weight; one pass over bytes that the first forward pass reads anyway.

    The smallest and the largest value are found without a second tensor of the weight's size, and NaN is
    both.

    Raises:
        ModelRefused: Naming the weight.
    """
    if value.is_floating_point() and value.numel():
        low, high = torch.aminmax(value.detach())
        if not (low.isfinite() and high.isfinite()):
            message = (
                f"{name} holds values that are not finite in {value.dtype}; the file is damaged, or made for a"
                " wider precision."
            )
            raise refused(message, name)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer beside a model.

    Raises:
        ModelRefused: If there is none that loads without code of its own, or it has more tokens than the model
            that lies beside it.
    """
    with quiet_transformers(), refusing("its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if (folder / CONFIG).is_file():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            _check_vocabulary(tokenizer, config.get_text_config().vocab_size)
    return tokenizer


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", -1))
    if largest >= rows:
        message = (
            f"its tokenizer gives {token!r} the id {largest}, and the model knows ids up to {rows - 1}; give the"
            " tokenizer that it was trained with, or enlarge its embedding where it was trained."
        )
        raise refused(message, largest)


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Say whatever the libraries raise on a damaged or hostile folder as a refusal with the reason.

    They name no set of errors: strict configs raise their own, tables a KeyError, tokenizers a bare Exception.
    """
    try:
        yield
    except (TrspError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if wants_memory(error):
            raise OutOfMemory(f"{what} does not fit into memory: {reason}") from error
        raise refused(f"{what} could not be loaded: {reason}") from error


def save_model(
    model: PreTrainedModel,
    folder: Path,
    *,
    source_folder: Path,
    dtype: torch.dtype,
    card: str = "",
    replace: bool = False,
) -> None:
    """Save a model as a plain Hugging Face folder, whole or not at all; `model` is left as it is.

    Config and generation config are the model's own; tokenizer, chat template, licence and model card come
    from the source.

    Args:
        model: The model; it may share storage with another.
        folder: Where it goes.
        source_folder: The folder that the model came from.
        dtype: Precision of the saved weights.
        card: Paragraph for the model card that says what was done; none is added where it is empty.
        replace: Whether a folder that is there may go.

    Raises:
        OutputRefused: If `folder` is there, not empty, and may not be replaced.
        StorageFull: If the disk has too little room.
    """
    check_room(folder, sum(value.numel() for value in model.parameters()) * dtype.itemsize)
    with folder_written_whole(folder, replace=replace) as temporary, quiet_transformers():
        model.save_pretrained(temporary, state_dict=_cast(model, dtype))
        _state_dtype(temporary / CONFIG, dtype)
        copy_companions(source_folder, temporary, card)


def _state_dtype(path: Path, dtype: torch.dtype) -> None:
    """Put the stored precision into a saved config; transformers puts the model's there."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor] | None:
    """Return the state in another precision, or None where it has it already and no copy is needed."""
    if model.dtype == dtype:
        return None
    tensors: dict[int, torch.Tensor] = {}
    return {name: _cast_once(value, dtype, tensors) for name, value in model.state_dict().items()}


def _cast_once(value: torch.Tensor, dtype: torch.dtype, done: dict[int, torch.Tensor]) -> torch.Tensor:
    """Cast a tensor; tied ones, which share their memory, stay one."""
    if not value.is_floating_point():
        return value
    return done.setdefault(value.data_ptr(), value.to(dtype))

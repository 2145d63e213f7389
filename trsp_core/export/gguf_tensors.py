"""Tensors of a model folder as GGUF stores them: renamed, reordered, converted, a few MiB at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
import numpy.typing as npt
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from trsp_core.architectures import Architecture
from trsp_core.errors import ModelRefused, NumericalFailure
from trsp_core.export.gguf_models import DEFAULT_ROTATION, GgufFamily, rotation_of
from trsp_core.file_copy import PIECE_BYTES
from trsp_core.safetensors_file import ITEM_BITS, Header, TensorInfo
from trsp_core.sources.validate import headers

Floats = npt.NDArray[np.float32]
Kind = gguf.GGMLQuantizationType
KINDS: Mapping[str, Kind] = {"f32": Kind.F32, "f16": Kind.F16, "q8_0": Kind.Q8_0}
_READABLE = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
_MOST_HALF = 65504.0


@dataclass(frozen=True)
class StoredTensor:
    """One tensor to be written; offers `GGUFWriter` what it asks of an array, and reads when it is written.

    Attributes:
        name: Its name in GGUF.
        kind: How it is stored there.
        path, header, source: Where it is now.
        heads: Heads whose rows are reordered; 0 where the order stays.
    """

    name: str
    kind: Kind
    path: Path
    header: Header
    source: str
    heads: int

    @property
    def info(self) -> TensorInfo:
        """Its element type, sizes and place in the source."""
        return self.header.tensors[self.source]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.info.shape

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the result."""
        elements, size = gguf.GGML_QUANT_SIZES[self.kind]
        return self.info.elements // elements * size

    def tofile(self, file: BinaryIO) -> None:
        """Write it in groups of whole rows, and of whole heads where their rows are reordered.

        Raises:
            NumericalFailure: If a value is too large for half precision.
        """
        for values in self._groups():
            if self.heads:
                values = _for_rotation(values, self._head_rows)
            if self.kind is Kind.F16 and not np.abs(values).max(initial=0.0) <= _MOST_HALF:
                raise NumericalFailure(f"{self.source} has values beyond float16; export f32 instead.")
            file.write(np.ascontiguousarray(gguf.quants.quantize(values, self.kind)).tobytes())

    @property
    def _head_rows(self) -> int:
        return self.info.shape[0] // self.heads

    def _groups(self) -> Iterator[Floats]:
        shape = self.info.shape if len(self.info.shape) > 1 else (1, *self.info.shape)
        rows, width = shape[0], prod(shape[1:])
        unit = self._head_rows if self.heads else 1
        row_bytes = width * ITEM_BITS[self.info.dtype] // 8
        step = unit * max(1, PIECE_BYTES // (unit * row_bytes))
        with self.path.open("rb") as file:
            file.seek(self.header.data_start + self.info.begin)
            for first in range(0, rows, step):
                count = min(step, rows - first)
                yield _floats(file.read(count * row_bytes), self.info.dtype).reshape(count, width)


@dataclass(frozen=True)
class MadeTensor:
    """A small float32 tensor that the source does not hold; offers the writer the same."""

    name: str
    values: Floats
    kind: Kind = Kind.F32

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.values.shape

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the result."""
        return self.values.nbytes

    def tofile(self, file: BinaryIO) -> None:
        """Write it."""
        file.write(self.values.tobytes())


def rotation_factors(config: PreTrainedConfig) -> list[MadeTensor]:
    """Return what the rotary frequencies are divided by, where they are scaled, as the tensor that tells it."""
    kind = rotation_of(config.to_dict())
    if kind == DEFAULT_ROTATION:
        return []
    scaled, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    if factor != 1.0:
        raise ModelRefused(f"gguf's rope factors cannot scale attention, and {kind} does by {factor}.")
    size = 2 * len(scaled)
    steps = np.arange(0, size, 2, dtype=np.float64) / size
    plain = 1.0 / float(config.rope_parameters["rope_theta"]) ** steps
    return [MadeTensor("rope_freqs.weight", (plain / scaled.double().numpy()).astype(np.float32))]


def stored_tensors(
    folder: Path, architecture: Architecture, family: GgufFamily, config: Mapping[str, Any], kind: Kind
) -> list[StoredTensor]:
    """Decide the name and storage of each tensor of a folder.

    Vectors, which are norms and biases, stay float32; what has rows that are no whole blocks is stored in
    float16 instead of blocks. A head that is tied to the embedding is left out.

    Raises:
        ModelRefused: If a tensor has no name in GGUF, or an element type that is no plain float.
    """
    names = gguf.get_tensor_name_map(_enum(family.architecture), config[architecture.layer_count])
    tied = architecture.ties_head(config)
    found = []
    for path, header in headers(folder).items():
        for source, info in header.tensors.items():
            skipped = tied and source == f"{architecture.head}.weight"
            if skipped or not architecture.is_weight(source):
                continue
            if info.dtype not in _READABLE:
                raise ModelRefused(f"{source} is stored as {info.dtype}, of which no gguf is written.")
            name = _name(source, architecture, names)
            heads = _heads(name, config) if family.permuted else 0
            found.append(StoredTensor(name, _kind(info, kind), path, header, source, heads))
    return found


def _enum(name: str) -> Any:
    return next(number for number, known in gguf.MODEL_ARCH_NAMES.items() if known == name)


def _name(source: str, architecture: Architecture, names: Any) -> str:
    inside = source.startswith(f"{architecture.head}.")
    full = source if inside else f"{architecture.base}.{architecture.without_base(source)}"
    name = names.get_name(full, try_suffixes=(".weight", ".bias"))
    if name is None:
        raise ModelRefused(f"{source} has no name in gguf.")
    return str(name)


def _heads(name: str, config: Mapping[str, Any]) -> int:
    if name.endswith(".attn_q.weight"):
        return int(config["num_attention_heads"])
    return int(config["num_key_value_heads"]) if name.endswith(".attn_k.weight") else 0


def _kind(info: TensorInfo, wanted: Kind) -> Kind:
    if len(info.shape) == 1:
        return Kind.F32
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    return wanted if info.shape[-1] % block == 0 else Kind.F16


def _floats(raw: bytes, dtype: str) -> Floats:
    values = np.frombuffer(raw, _READABLE[dtype])
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)


def _for_rotation(values: Floats, head_rows: int) -> Floats:
    """Bring each head's rows from two halves that are rotated against each other to neighbouring pairs.

    transformers rotates row i against row i + n/2, llama.cpp's `llama` row 2i against 2i + 1.
    """
    pairs = values.reshape(-1, 2, head_rows // 2, values.shape[-1])
    return pairs.swapaxes(1, 2).reshape(values.shape)

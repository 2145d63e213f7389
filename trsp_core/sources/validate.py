"""A model is hostile input: everything that is refused before transformers sees a folder.

The config may name code, other files or internal switches; weight files may lie about their contents.
transformers < 5.3 ran code from `_attn_implementation_internal` (CVE-2026-4372), so keys are judged here
by an own list and not by what today's version does with them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trsp_core.architectures import Architecture, architecture_of
from trsp_core.bounded_json import BadJson, parse
from trsp_core.pruned_quantization import QUANTIZATION
from trsp_core.safetensors_file import Header, SafetensorsError, TensorInfo, read_header
from trsp_core.sources.config_values import check_model_type, check_values
from trsp_core.sources.folder_files import check_files
from trsp_core.sources.policy import SourcePolicy, refused
from trsp_core.wording import quoted

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_LAYERS = 1024
MAX_INDEX_BYTES = 16 * 1024 * 1024
_MAX_JSON_BYTES = 4 * 1024 * 1024
_MAX_ITEMS = 250_000
_MAX_DEPTH = 32
_MAX_TENSORS = 150_000
_MAX_HEADERS_BYTES = 64 * 1024 * 1024

# Leading underscores that published checkpoints carry and that name no code; `__float__` is how transformers
# writes an infinite number.
HARMLESS_UNDERSCORED = frozenset(
    {
        "_name_or_path",
        "_remove_final_layer_norm",
        "_commit_hash",
        "_sliding_window_pattern",
        "__float__",
        "_load_in_4bit",
        "_load_in_8bit",
    }
)

_NAMES_CODE = "names code that would run on loading; only models that transformers has itself are taken"
_FORBIDDEN: Mapping[str, str] = {
    "auto_map": _NAMES_CODE,
    "custom_pipelines": _NAMES_CODE,
    "transformers_weights": "names another weight file; call that model.safetensors and drop the key",
    "fusion_config": "rewrites the model's code on loading; drop the key",
    "kernel_config": "loads kernels from the hub; drop the key",
    "distributed_config": "describes another machine; drop the key",
    "per_layer_config": "makes layers differ from each other, which is not supported yet",
    "attribute_map": "renames the config's own values; drop the key",
    "sub_configs": "renames the config's own parts; drop the key",
    QUANTIZATION: "says that the weights are quantized; give the unquantized model, or a GGUF file",
}
_ATTENTION_KINDS = frozenset(
    {None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"}
)
_OTHER_FILES = ("fast_tokenizer_files", "tokenizer_file", "vocab_file", "merges_file", "init_inputs")
_FILE_NAME = re.compile(r"\w[\w.+=@-]{0,200}\.safetensors", re.ASCII)
_TOKENIZER_CLASS = re.compile(r"(?!Auto)[A-Z]\w{0,60}(?:Tokenizer|TokenizerFast|Backend)")
_ATTENTION_KEYS = ("attn_implementation", "experts_implementation")


def read_json(path: Path, most_bytes: int = _MAX_JSON_BYTES) -> Any:
    """Read a JSON file of a model.

    Raises:
        ModelRefused: If it is missing, too large, no UTF-8 or no JSON.
    """
    if not path.is_file():
        raise refused(
            f"has no {path.name}; a model folder holds config.json and safetensors.", str(path.parent)
        )
    size = path.stat().st_size
    if size > most_bytes:
        raise refused(f"{path.name} has {size} bytes; at most {most_bytes} are read.", path.name)
    try:
        return parse(path.read_bytes(), most_items=_MAX_ITEMS)
    except BadJson as error:
        raise refused(f"{path.name} {error}.", path.name) from error


def check_keys(value: Any, file: str, depth: int = 0) -> None:
    """Refuse keys, at any depth, that name code, other files or internals of transformers.

    Raises:
        ModelRefused: Naming the key.
    """
    if depth > _MAX_DEPTH:
        raise refused(f"{file} is nested deeper than {_MAX_DEPTH} levels.", file)
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_key(str(key), item, file)
            check_keys(item, file, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_keys(item, file, depth + 1)


def _check_key(key: str, value: Any, file: str) -> None:
    if key in _FORBIDDEN:
        raise refused(f"{file} holds {key}, which {_FORBIDDEN[key]}.", key)
    if key.startswith("_") and key not in HARMLESS_UNDERSCORED:
        raise refused(f"{file} holds {key}, an internal key that no checkpoint needs; drop it.", key)
    if key in _ATTENTION_KEYS and not (isinstance(value, str | None) and value in _ATTENTION_KINDS):
        raise refused(f"{file} asks for the attention code {quoted(value)} from elsewhere; drop {key}.", key)


def check_config(config: Any, *, quantized: bool = False) -> Architecture:
    """Check a model's config and return what is known of its architecture.

    Args:
        config: What `config.json` holds.
        quantized: Whether it may describe packed weights.

    Raises:
        ModelRefused: On forbidden keys, an unsupported `model_type`, a layer count that cannot be, or a
            feature that layer removal cannot keep right.
    """
    if not isinstance(config, Mapping):
        raise refused("config.json is no JSON object.")
    check_keys({key: value for key, value in config.items() if key != QUANTIZATION or not quantized}, CONFIG)
    check_keys(config.get(QUANTIZATION), CONFIG)
    check_model_type(config.get("model_type"))
    architecture = architecture_of(config["model_type"])
    layers = architecture.count(config)
    if type(layers) is not int or not 2 <= layers <= MAX_LAYERS:
        message = f"states {quoted(layers)} for {architecture.layer_count}; it must be 2 to {MAX_LAYERS}."
        raise refused(message, layers)
    check_values(config, architecture)
    _check_features(config, architecture)
    architecture.kinds(config)
    return architecture


def _check_features(config: Mapping[str, Any], architecture: Architecture) -> None:
    for key in ("is_encoder_decoder", "add_cross_attention"):
        if config.get(key):
            raise refused(f"{key} is true in config.json; only decoder-only models are taken.", key)
    text = architecture.text(config)
    for item in architecture.forbidden:
        if item.holds(text.get(item.key)):
            message = f"{item.key} is {_shown(text[item.key])} in config.json: {item.reason}."
            raise refused(message, item.key)


def _shown(value: Any) -> str:
    return quoted(value) if isinstance(value, (bool, int, str)) else "set"


def check_folder(folder: Path, policy: SourcePolicy) -> tuple[dict[str, Any], Architecture]:
    """Check everything in a model folder that loading would read.

    Args:
        folder: A folder of config, tokenizer and safetensors.
        policy: Roots that every file, its links followed, must lie in.

    Returns:
        The config and its architecture.

    Raises:
        ModelRefused: Saying what is wrong and what would be right.
    """
    if not (folder / CONFIG).is_file():
        raise refused(f"{folder} has no {CONFIG}; a model folder holds it and safetensors.", str(folder))
    check_files(folder, policy)
    config = read_json(folder / CONFIG)
    architecture = check_config(config, quantized=policy.quantized)
    for path in sorted({*folder.glob("*_config.json"), folder / "special_tokens_map.json"}):
        if path.is_file():
            _check_companion(read_json(path), path.name)
    check_tensors(tensor_table(folder), config, architecture)
    return dict(config), architecture


def _check_companion(value: Any, name: str) -> None:
    """Check a companion of the config: it may have internals of its own, but may name no code."""
    if not isinstance(value, Mapping):
        raise refused(f"{name} is no JSON object.", name)
    for key in _keys(value, name):
        if key in ("auto_map", "custom_generate"):
            raise refused(f"{name} holds {key}, which {_NAMES_CODE}.", key)
    for key in _OTHER_FILES:
        if value.get(key) is not None:
            raise refused(f"{name} holds {key}, which names another file; drop the key.", key)
    chosen = value.get("tokenizer_class")
    if chosen is not None and not (isinstance(chosen, str) and _TOKENIZER_CLASS.fullmatch(chosen)):
        message = (
            f"{name} asks for the tokenizer_class {quoted(chosen)}; it must name one of transformers' own."
        )
        raise refused(message, chosen)


def _keys(value: Any, file: str, depth: int = 0) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise refused(f"{file} is nested deeper than {_MAX_DEPTH} levels.", file)
    if isinstance(value, Mapping):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _keys(item, file, depth + 1)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model, in order of name.

    Raises:
        ModelRefused: If there are none, or the index names a file elsewhere or one that is missing.
    """
    index = folder / INDEX
    if index.is_file():
        names = sorted(set(weight_map(index).values()))
        if (folder / WEIGHTS).is_file() and names != [WEIGHTS]:
            message = f"holds {WEIGHTS} and {INDEX} with other files; remove one, they may be two models."
            raise refused(message, INDEX)
        return [folder / name for name in names]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        message = (
            "holds only pickled weights, which can run code on loading. Convert them to safetensors where "
            "you trust them: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)."
        )
        raise refused(message, str(folder))
    raise refused(f"has no {WEIGHTS} and no {INDEX}.", str(folder))


def weight_map(index: Path) -> dict[str, str]:
    """Read and check an index: tensor name -> file beside it."""
    value = read_json(index, MAX_INDEX_BYTES)
    entries = value.get("weight_map") if isinstance(value, Mapping) else None
    if not isinstance(entries, dict) or not entries:
        raise refused(f"{index.name} has no weight_map.", index.name)
    for name in entries.values():
        if not isinstance(name, str):
            raise refused(f"{index.name} gives {quoted(name)} where a file's name belongs.", name)
    for name in sorted(set(entries.values())):
        if not _FILE_NAME.fullmatch(name):
            raise refused(
                f"{index.name} points to {name!r}; only .safetensors files beside it are read.", name
            )
        if not (index.parent / name).is_file():
            raise refused(f"{index.name} names {name}, which is not there.", name)
    return entries


def headers(folder: Path) -> dict[Path, Header]:
    """Return the checked header of each weight file.

    Raises:
        ModelRefused: If one is damaged, or the index does not fit them.
    """
    result: dict[Path, Header] = {}
    tensors = size = 0
    for path in weight_files(folder):
        try:
            result[path] = read_header(path)
        except SafetensorsError as error:
            raise refused(str(error), str(folder)) from error
        tensors += len(result[path].tensors)
        size += len(result[path].raw)
        if tensors > _MAX_TENSORS or size > _MAX_HEADERS_BYTES:
            message = f"holds {tensors} tensors and {size} bytes of headers up to {path.name}; at most"
            raise refused(f"{message} {_MAX_TENSORS} and {_MAX_HEADERS_BYTES} are read.", str(folder))
    _check_index(folder, result)
    return result


def _check_index(folder: Path, files: Mapping[Path, Header]) -> None:
    names = Counter(name for header in files.values() for name in header.tensors)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise refused(f"holds the tensor {twice} in two weight files.", str(folder))
    if not (folder / INDEX).is_file():
        return
    table = weight_map(folder / INDEX)
    for name, file in table.items():
        if name not in files[folder / file].tensors:
            raise refused(f"{INDEX} says that {file} holds {name}, which it does not.", name)
    unnamed = sorted(names.keys() - table.keys())
    if unnamed:
        raise refused(f"the weight files hold {unnamed[0]}, which {INDEX} does not name.", unnamed[0])


def tensor_table(folder: Path) -> dict[str, TensorInfo]:
    """Return name -> place of all tensors of a model."""
    return {name: info for header in headers(folder).values() for name, info in header.tensors.items()}


def check_tensors(
    tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], architecture: Architecture
) -> None:
    """Check that the stored tensors are those of the model that the config describes.

    Raises:
        ModelRefused: If layers are missing or too many, layers differ, or embedding or head is wrong; loading
            would make up random weights, or drop some, with no more than a warning.
    """
    for problem in _mismatches(tensors, config, architecture):
        raise refused(problem)


def _mismatches(
    tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], architecture: Architecture
) -> Iterator[str]:
    stated = architecture.count(config)
    further = range(stated, stated + architecture.future_layers(config))
    layers = {i: shapes for i, shapes in layer_shapes(tensors, architecture).items() if i not in further}
    if sorted(layers) != list(range(stated)):
        found = f"{len(layers)} layers" + (f" up to index {max(layers)}" if layers else "")
        yield f"config.json states {stated} layers, the weights hold {found}."
        return
    if QUANTIZATION in config:
        return  # packed formats store what they like for a weight, and leave some layers' weights as they were
    first: dict[tuple[Any, ...], int] = {}
    for index, kind in enumerate(architecture.kinds(config)):
        model = first.setdefault(kind, index)
        different = sorted(set(layers[index].items()) ^ set(layers[model].items()))
        if different:
            yield f"layer {index} has other weights than layer {model}: {different[0][0]}."
    yield from _edge_mismatches(tensors, config, architecture)


def layer_shapes(
    tensors: Mapping[str, TensorInfo], architecture: Architecture
) -> dict[int, dict[str, tuple[int, ...]]]:
    """Return, for each layer, the shape of each of its weights."""
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, info in tensors.items():
        place = architecture.split(name)
        if place is not None and architecture.is_weight(name):
            layers.setdefault(place[1], {})[place[2]] = info.shape
    return layers


def _edge_mismatches(
    tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], architecture: Architecture
) -> Iterator[str]:
    text = architecture.text(config)
    bare = {architecture.without_base(name): info for name, info in tensors.items()}
    embedding = bare.get(architecture.without_base(architecture.embedding) + ".weight")
    width = text.get(architecture.embedding_width or architecture.width) or text.get(architecture.width)
    wanted = (text.get(architecture.vocabulary), width)
    if embedding is None:
        yield f"the weights hold no {architecture.embedding}.weight."
    elif None not in wanted and embedding.shape != wanted:
        yield f"the embedding is {list(embedding.shape)}, config.json describes {list(wanted)}."
    head = architecture.without_base(f"{architecture.head}.weight")
    if head not in bare and not architecture.ties_head(config):
        yield f"the weights hold no {head}, and config.json does not tie it to the embedding."

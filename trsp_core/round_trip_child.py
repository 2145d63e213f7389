"""Run as a file by `round_trip`: every check of the certificate, in a process that knows nothing of this project.

Takes one JSON object as its argument and writes its findings to the file that the object names. The model is
loaded three times, one after the other, so that no more than one is held. Where loading warns or a check
fails, the source is loaded, too: what it does as well is not the removal's.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import importlib.util
import json
import logging
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging as hf_logging

_PROMPTS = (8, 3)
"""Tokens of the prompts that are generated from; the first alone, all of them together in a padded batch."""
_TOKENS, _LOGITS, _TENSORS, _WARNINGS = (
    "different tokens",
    "largest logit difference",
    "different tensors",
    "warnings",
)
_WHOLE = ("second_save_tensors", "second_save_logits", "sdpa_and_eager", "vllm")
"""The checks that need the whole model in memory."""
_SILENT = (DeprecationWarning, PendingDeprecationWarning)
"""Said to whoever maintains a library; Python does not show them either."""


class _Collected(logging.Handler):
    """Keeps what is logged at warning level and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@dataclass(frozen=True)
class Generated:
    """A greedy generation: tokens `[new]` and the logits they were chosen by `[new, vocabulary]`."""

    tokens: torch.Tensor
    logits: torch.Tensor


@dataclass(frozen=True)
class First:
    """What is kept of the first load when its model is gone: `logits` are `[sequences, tokens, vocabulary]`."""

    checks: list[dict[str, Any]]
    said: list[str]
    logits: torch.Tensor
    generated: Generated
    hashes: dict[str, str]
    attention: str
    has_sdpa: bool


def check(
    name: str,
    ok: bool | None,
    figure: float | None = None,
    tolerance: float = 0,
    unit: str = "",
    why: str = "",
) -> dict[str, Any]:
    """Return one line of the certificate; `ok` is None where the check does not apply, for the reason `why`."""
    limit = None if figure is None else tolerance
    return {"name": name, "ok": ok, "figure": figure, "tolerance": limit, "unit": unit, "detail": why}


def load(folder: str, dtype: torch.dtype, device: str, **options: Any) -> tuple[Any, list[str]]:
    """Load a model as anybody would; returns it and the warnings that loading gave.

    Among them are those that transformers gives once a process, whatever was loaded before.
    """
    hf_logging.warning_once.cache_clear()
    collected = _Collected()
    logger = logging.getLogger("transformers")
    logger.addHandler(collected)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options)
    logger.removeHandler(collected)
    raised = [str(item.message) for item in caught if not issubclass(item.category, _SILENT)]
    placed = model if "device_map" in options else model.to(device)
    return placed.eval(), collected.messages + raised


def opened(folder: str, request: dict[str, Any], device: str) -> tuple[Any, list[str]]:
    """Load a model, its weights left on disk where the request says that memory cannot hold them.

    A GPU takes what it has room for.
    """
    options: dict[str, Any] = {}
    if request["streamed"]:
        options["device_map"] = {"": "disk"} if torch.device(device).type == "cpu" else "auto"
        options["offload_folder"] = tempfile.mkdtemp(dir=Path(request["answer"]).parent)
    return load(folder, getattr(torch, request["dtype"]), device, **options)


@torch.no_grad()
def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return the logits of one pass without a cache, float32 on the CPU `[sequences, tokens, vocabulary]`."""
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    logits: torch.Tensor = out.logits
    return logits.float().cpu()


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the largest absolute difference."""
    return float((first - second).abs().max())


def generate(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, new_tokens: int, *, use_cache: bool = True
) -> list[Generated]:
    """Generate greedily past any end-of-text from a batch `[sequences, tokens]`; positions are left to the model."""
    out = model.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        use_cache=use_cache,
        pad_token_id=padding_of(model),
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = torch.stack(out.logits, dim=1)
    return [Generated(row[ids.shape[1] :], logits[place]) for place, row in enumerate(out.sequences)]


def padding_of(model: Any) -> int:
    """Return the token that fills a row up: the model's own, or, as it is masked anyhow, the first."""
    own = model.generation_config.pad_token_id
    return own if isinstance(own, int) and own >= 0 else 0


def noise(dtype: torch.dtype) -> float:
    """Return how far a logit may stray by another order of summation, as a share of the largest logit.

    64 steps of float32, in which sums of thousands of terms are rounded at every term; 8 of the 16-bit
    formats, whose sums are kept in float32 and rounded once.
    """
    return (64 if dtype == torch.float32 else 8) * torch.finfo(dtype).eps


def different_tokens(first: Generated, second: Generated) -> int:
    """Return how many tokens differ that no tie explains.

    Two logits tie where they are nearer to each other than the noise of their precision; from a tie on the
    runs see different texts and are not compared.
    """
    different = (first.tokens != second.tokens).nonzero()
    if not len(different):
        return 0
    place = int(different[0])
    row = first.logits[place]
    gap = float((row[first.tokens[place]] - row[second.tokens[place]]).abs())
    return 0 if gap <= noise(row.dtype) * float(row.abs().max()) else len(different)


def same_tokens(name: str, pairs: list[tuple[Generated, Generated]], why: str) -> dict[str, Any]:
    """Return the check that generations, two by two, chose the same tokens."""
    count = sum(different_tokens(*pair) for pair in pairs)
    return check(name, count == 0, count, 0, _TOKENS, why)


def prompts(ids: torch.Tensor) -> list[torch.Tensor]:
    """Return the prompts that are generated from, `[1, tokens]` each, of different lengths."""
    return [ids[row % len(ids), :length][None] for row, length in enumerate(_PROMPTS)]


def cached(model: Any, prompt: torch.Tensor, first: Generated) -> dict[str, Any]:
    """Check that generating without the KV cache gives what generating with it gave."""
    new_tokens = len(first.tokens)
    without = generate(model, prompt, torch.ones_like(prompt), new_tokens, use_cache=False)[0]
    return same_tokens("cached_generation", [(first, without)], f"{new_tokens} tokens, greedy")


def left_padded(model: Any, ids: torch.Tensor, alone: list[Generated]) -> dict[str, Any]:
    """Check that prompts of different lengths give in one left-padded batch what each gives alone."""
    lengths = [prompt.shape[1] for prompt in prompts(ids)]
    batch = torch.full((len(alone), max(lengths)), padding_of(model), dtype=ids.dtype, device=ids.device)
    mask = torch.zeros_like(batch)
    for row, prompt in enumerate(prompts(ids)):
        batch[row, -prompt.shape[1] :] = prompt
        mask[row, -prompt.shape[1] :] = 1
    together = generate(model, batch, mask, len(alone[0].tokens))
    why = f"prompts of {', '.join(map(str, lengths))} tokens"
    return same_tokens("left_padded", list(zip(alone, together, strict=True)), why)


def each_alone(model: Any, ids: torch.Tensor, new_tokens: int) -> list[Generated]:
    """Generate from every prompt by itself."""
    return [generate(model, prompt, torch.ones_like(prompt), new_tokens)[0] for prompt in prompts(ids)]


def tensor_hashes(model: Any) -> dict[str, str]:
    """Return the SHA-256 of each tensor's bytes by name."""
    return {
        name: hashlib.sha256(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest()
        for name, value in model.state_dict().items()
    }


def first_load(request: dict[str, Any], ids: torch.Tensor, reference: torch.Tensor, second: Path) -> First:
    """Load plainly, compare with the reference, generate, and save again to `second`."""
    model, said = opened(request["folder"], request, request["device"])
    logits = logits_of(model, ids)
    far, allowed = difference(logits, reference), request["tolerance"]
    checks = [warnings_check(said, request), check("logits", far <= allowed, far, allowed, _LOGITS)]
    alone = each_alone(model, ids, request["new_tokens"])
    checks += [cached(model, prompts(ids)[0], alone[0]), left_padded(model, ids, alone)]
    hashes = {} if request["streamed"] else saved_again(model, second)
    attention = model.config._attn_implementation
    has_sdpa = type(model)._supports_sdpa
    return First(checks, said, logits, alone[0], hashes, attention, has_sdpa)


def saved_again(model: Any, folder: Path) -> dict[str, str]:
    """Save a loaded model once more; returns the hashes of its tensors."""
    model.save_pretrained(folder)
    return tensor_hashes(model)


def warnings_check(said: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """Check that loading gave no warning but those that loading the source gives, too."""
    if not said or request["source"] is None:
        return check("no_warnings", not said, len(said), 0, _WARNINGS, " ".join(said))
    _, known = opened(request["source"], request, "cpu")
    new = [words for words in said if words not in known]
    detail = " ".join(new) or f"the source gives the same: {' '.join(said)}"
    return check("no_warnings", not new, len(new), 0, _WARNINGS, detail)


def second_load(
    request: dict[str, Any], ids: torch.Tensor, first: First, second: Path
) -> list[dict[str, Any]]:
    """Load what was saved again: the same tensors to the bit, the same logits to the bit."""
    model, _ = load(str(second), getattr(torch, request["dtype"]), request["device"])
    far = difference(logits_of(model, ids), first.logits)
    hashes = tensor_hashes(model)
    different = sorted({name for name, _ in first.hashes.items() ^ hashes.items()})
    count = len(different)
    return [
        check("second_save_tensors", count == 0, count, 0, _TENSORS, ", ".join(different[:3])),
        check("second_save_logits", far == 0, far, 0, _LOGITS),
    ]


def eager_load(request: dict[str, Any], ids: torch.Tensor, first: First) -> dict[str, Any]:
    """Compare the attention that loading picks, SDPA, with the eager one, twice the noise being allowed."""
    name = "sdpa_and_eager"
    if not first.has_sdpa:
        return check(name, None, why="the model's class has no SDPA attention")
    if first.attention != "sdpa":
        return check(name, None, why=f"the model loads with the attention {first.attention}")
    return eager_against(first.logits, request["folder"], request, ids)


def eager_against(
    logits: torch.Tensor, folder: str, request: dict[str, Any], ids: torch.Tensor
) -> dict[str, Any]:
    """Compare the eager attention's logits with those of SDPA."""
    dtype = getattr(torch, request["dtype"])
    model, _ = load(folder, dtype, request["device"], attn_implementation="eager")
    far = difference(logits_of(model, ids), logits)
    allowed = 2 * noise(dtype) * float(logits.abs().max())
    return check("sdpa_and_eager", far <= allowed, far, allowed, _LOGITS)


def unless_the_source_s(found: dict[str, Any], request: dict[str, Any], ids: torch.Tensor) -> dict[str, Any]:
    """Return a failed check of padding or attention as one that does not apply where the source fails it, too.

    Some recurrent models read padding into their state, and of some, such as Falcon with ALiBi, transformers'
    SDPA and eager code compute different things: with all layers as without some.
    """
    trial = {"left_padded": _source_padded, "sdpa_and_eager": _source_eager}.get(found["name"])
    if found["ok"] is not False or request["source"] is None or trial is None:
        return found
    gc.collect()
    source = trial(request, ids)
    if source["ok"]:
        return found
    told = f"{source['unit']} {source['figure']:g}, allowed {source['tolerance']:g}"
    return check(found["name"], None, why=f"the source does not pass it either: {told}")


def _source_padded(request: dict[str, Any], ids: torch.Tensor) -> dict[str, Any]:
    model, _ = opened(request["source"], request, request["device"])
    return left_padded(model, ids, each_alone(model, ids, request["new_tokens"]))


def _source_eager(request: dict[str, Any], ids: torch.Tensor) -> dict[str, Any]:
    model, _ = load(request["source"], getattr(torch, request["dtype"]), request["device"])
    logits = logits_of(model, ids)
    del model
    gc.collect()
    return eager_against(logits, request["source"], request, ids)


def vllm_load(request: dict[str, Any], ids: torch.Tensor, first: First) -> dict[str, Any]:
    """Compare vLLM's greedy tokens, where it is installed and has the architecture."""
    if importlib.util.find_spec("vllm") is None:
        return check("vllm", None, why="vLLM is not installed")
    vllm: Any = importlib.import_module("vllm")
    architecture = json.loads((Path(request["folder"]) / "config.json").read_text())["architectures"][0]
    if architecture not in vllm.ModelRegistry.get_supported_archs():
        return check("vllm", None, why=f"vLLM has no {architecture}")
    prompt, new = prompts(ids)[0][0].tolist(), request["new_tokens"]
    there = vllm.platforms.current_platform.device_type
    if there != torch.device(request["device"]).type:
        return check("vllm", None, why=f"vLLM runs on {there} here, the job does not")
    engine = vllm.LLM(
        request["folder"],
        dtype=request["dtype"],
        max_model_len=len(prompt) + new,
        skip_tokenizer_init=True,
        enforce_eager=True,
        gpu_memory_utilization=_free_share(there),
    )
    greedy = vllm.SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
    made = engine.generate(vllm.TokensPrompt(prompt_token_ids=prompt), greedy)[0].outputs[0].token_ids
    tokens = torch.tensor(list(made), device=first.generated.tokens.device)
    return same_tokens(
        "vllm", [(first.generated, Generated(tokens, first.generated.logits))], f"{new} tokens"
    )


def _free_share(device_type: str) -> float:
    """Return the share of the GPU's memory that vLLM may take beside the process that holds the source."""
    if device_type != "cuda":
        return 0.9
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return 0.9 * free / total


def whole_loads(
    request: dict[str, Any], ids: torch.Tensor, first: First, second: Path
) -> list[dict[str, Any]]:
    """Return the checks that load the whole model again."""
    checks = second_load(request, ids, first, second)
    gc.collect()
    checks.append(eager_load(request, ids, first))
    gc.collect()
    return checks


def too_large() -> list[dict[str, Any]]:
    """Return the checks that need the whole model in memory as such that do not apply."""
    return [check(name, None, why="the weights stay on disk") for name in _WHOLE]


def main(request: dict[str, Any]) -> None:
    """Load, compare, generate, save and load again, and write what was found.

    What importing left is taken out of the garbage collector's sight: it would go over all of it each time
    that a model is let go.
    """
    gc.freeze()
    torch.set_num_threads(request["threads"])
    reference = load_file(request["reference"])
    ids = reference["input_ids"].to(request["device"])
    second = Path(request["answer"]).with_name("second")
    first = first_load(request, ids, reference["logits"], second)
    gc.collect()
    more = too_large() if request["streamed"] else whole_loads(request, ids, first, second)
    checks = [unless_the_source_s(item, request, ids) for item in first.checks + more]
    gc.collect()
    if not request["streamed"]:
        checks.append(vllm_load(request, ids, first))
    offload = ", device_map=…, offload_folder=…" if request["streamed"] else ""
    loader = f"AutoModelForCausalLM.from_pretrained(folder, dtype=torch.{request['dtype']}{offload})"
    found = {"loader": loader, "warnings": first.said, "checks": checks}
    Path(request["answer"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

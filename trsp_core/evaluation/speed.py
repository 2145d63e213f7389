"""Speed of the pruned model against the dense one, and the most that could be had.

Dense and pruned take turns on the same device in one process, so that a machine that warms up, slows down
or is shared does the same to both; the figure is the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trsp_core.config import SpeedOptions
from trsp_core.evaluation.perplexity import StepFn, evaluating
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.results import SpeedResult

SHARE_RUNS = 3
"""Dense runs with timed layers; their median gives the ceiling."""

RunFn = Callable[[nn.Module], object]
Mark = Any


def measure_speed(
    dense: nn.Module,
    pruned: nn.Module,
    options: SpeedOptions,
    *,
    layer_modules: Sequence[nn.Module],
    removed: Sequence[int],
    seed: int,
    on_step: StepFn | None = None,
    should_stop: StopFn = never,
) -> dict[str, SpeedResult]:
    """Return the `prompt` test (one forward without cache, ms) and the `generation` test (tokens/s).

    Args:
        dense, pruned: Causal LMs on the same device; their mode is restored.
        options: Sizes; those beyond the model's positions are cut, and the result says what was used.
        layer_modules: The decoder layers of `dense`.
        removed: Indices of those that `pruned` lacks.
        seed: Of the random token ids.
        on_step: Told the runs done and their number.

    Raises:
        Cancelled: `should_stop` said so, between two runs.
    """
    counter = _Counter(2 * (options.warmup + options.repeats) + 2 * SHARE_RUNS, on_step, should_stop)
    watched = [layer_modules[index] for index in removed]
    with evaluating(dense), evaluating(pruned):
        return {
            test.name: _measure(test, dense, pruned, watched, options, counter)
            for test in (_prompt_test(dense, options, seed), _generation_test(dense, options, seed))
        }


def share_of_layers(
    model: nn.Module, layers: Sequence[nn.Module], ids: Tensor, *, should_stop: StopFn = never
) -> float:
    """Return the share of a forward pass over `ids` that these layers take, 0 to below 1; the median of runs.

    Args:
        model: A causal LM; its mode is restored.
        layers: Modules that the pass runs through.
        ids: `[sequences, tokens]`, on the model's device.

    Raises:
        Cancelled: `should_stop` said so, between two runs.
    """

    def run(model: nn.Module) -> object:
        return model(input_ids=ids, use_cache=False, logits_to_keep=1)

    shares = []
    with evaluating(model):
        run(model)
        for _ in range(SHARE_RUNS):
            raise_if_stopped(should_stop)
            shares.append(_timed_share(run, model, layers))
    return statistics.median(shares)


@dataclass(frozen=True)
class _Test:
    """One thing that is timed: `tokens` made a run, or None where the figure is the run's time."""

    name: str
    unit: str
    run: RunFn
    tokens: int | None
    sizes: Mapping[str, int]

    def figure(self, seconds: float) -> float:
        return seconds * 1000 if self.tokens is None else self.tokens / seconds


def _prompt_test(dense: nn.Module, options: SpeedOptions, seed: int) -> _Test:
    length = min(options.prompt_tokens, _max_positions(dense) or options.prompt_tokens)
    ids = _random_ids(dense, 1, length, seed)

    def run(model: nn.Module) -> object:
        return model(input_ids=ids, use_cache=False, logits_to_keep=1)

    return _Test("prompt", "ms", run, None, {"batch": 1, "prompt_tokens": length})


def _generation_test(dense: nn.Module, options: SpeedOptions, seed: int) -> _Test:
    prompt, new = _generation_sizes(options, _max_positions(dense))
    ids = _random_ids(dense, options.batch, prompt, seed)
    mask = torch.ones_like(ids)
    settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}

    def run(model: nn.Module) -> object:
        causal: Any = model
        return causal.generate(input_ids=ids, attention_mask=mask, use_cache=True, **settings)

    sizes = {"batch": options.batch, "prompt_tokens": prompt, "new_tokens": new}
    return _Test("generation", "tokens/s", run, options.batch * new, sizes)


def _generation_sizes(options: SpeedOptions, limit: int | None) -> tuple[int, int]:
    """Return prompt and new tokens that fit into `limit` positions; the prompt gets at most half of them."""
    if limit is None:
        return options.generation_prompt, options.new_tokens
    prompt = max(1, min(options.generation_prompt, limit // 2))
    return prompt, min(options.new_tokens, limit - prompt)


def _max_positions(model: nn.Module) -> int | None:
    causal: Any = model
    return getattr(causal.config.get_text_config(), "max_position_embeddings", None)


def _random_ids(model: nn.Module, batch: int, length: int, seed: int) -> Tensor:
    causal: Any = model
    vocabulary = causal.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (batch, length), generator=generator)
    return ids.to(_device(model))


def _measure(
    test: _Test,
    dense: nn.Module,
    pruned: nn.Module,
    watched: Sequence[nn.Module],
    options: SpeedOptions,
    counter: _Counter,
) -> SpeedResult:
    shares, pairs = [], []
    for index in range(options.warmup + options.repeats):
        pair = _timed_pair(test.run, dense, pruned, dense_first=index % 2 == 0)
        if index >= options.warmup:
            pairs.append(pair)
        counter.step()
    for _ in range(SHARE_RUNS):
        shares.append(_timed_share(test.run, dense, watched))
        counter.step()
    return _result(test, pairs, statistics.median(shares))


def _result(test: _Test, pairs: Sequence[tuple[float, float]], share: float) -> SpeedResult:
    ratios = [dense / pruned for dense, pruned in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    ceiling = 1 / (1 - share)
    return SpeedResult(
        dense=test.figure(statistics.median(dense for dense, _ in pairs)),
        pruned=test.figure(statistics.median(pruned for _, pruned in pairs)),
        unit=test.unit,
        ratio=middle,
        ceiling=ceiling,
        repeats=len(pairs),
        spread=(low, high),
        above_ceiling=low > ceiling,
        sizes=test.sizes,
    )


def _timed_pair(run: RunFn, dense: nn.Module, pruned: nn.Module, *, dense_first: bool) -> tuple[float, float]:
    """Return the seconds of a dense and a pruned run; who goes first alternates, so that neither profits."""
    if dense_first:
        before = _timed(run, dense)
        return before, _timed(run, pruned)
    after = _timed(run, pruned)
    return _timed(run, dense), after


def _timed(run: RunFn, model: nn.Module) -> float:
    device = _device(model)
    start = _mark(device)
    run(model)
    return _seconds([(start, _mark(device))], device)


def _timed_share(run: RunFn, model: nn.Module, watched: Sequence[nn.Module]) -> float:
    """Return the share of a dense run's time that the watched layers take, 0 to below 1."""
    device = _device(model)
    with _layer_marks(watched, device) as spans:
        start = _mark(device)
        run(model)
        stop = _mark(device)
    whole = _seconds([(start, stop)], device)
    return _seconds(spans, device) / whole


@contextmanager
def _layer_marks(watched: Sequence[nn.Module], device: torch.device) -> Iterator[list[tuple[Mark, Mark]]]:
    """Collect when each watched layer began and ended, as long as the context is open."""
    spans: list[tuple[Mark, Mark]] = []
    begun: list[Mark] = []

    def begin(_module: nn.Module, _args: object) -> None:
        begun.append(_mark(device))

    def end(_module: nn.Module, _args: object, _output: object) -> None:
        spans.append((begun.pop(), _mark(device)))

    handles = [layer.register_forward_pre_hook(begin) for layer in watched]
    handles += [layer.register_forward_hook(end) for layer in watched]
    try:
        yield spans
    finally:
        for handle in handles:
            handle.remove()


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _mark(device: torch.device) -> Mark:
    """Return a point in time: a device event on CUDA, where calls return before the work is done."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def _seconds(spans: Sequence[tuple[Mark, Mark]], device: torch.device) -> float:
    if device.type != "cuda":
        return float(sum(stop - start for start, stop in spans))
    torch.cuda.synchronize(device)
    return float(sum(start.elapsed_time(stop) for start, stop in spans)) / 1000


class _Counter:
    """Counts runs, tells them on and stops on request."""

    def __init__(self, total: int, on_step: StepFn | None, should_stop: StopFn) -> None:
        self._done, self._total = 0, total
        self._on_step, self._should_stop = on_step, should_stop

    def step(self) -> None:
        self._done += 1
        if self._on_step is not None:
            self._on_step(self._done, self._total)
        raise_if_stopped(self._should_stop)

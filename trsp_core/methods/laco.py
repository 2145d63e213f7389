"""LaCo (Yang et al., 2024): neighbouring layers collapse into one while the final states stay similar."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from torch import Tensor

from trsp_core.decoder import assign
from trsp_core.errors import InvalidSpec, NumericalFailure, Problem
from trsp_core.merging import Merge, are_alike, final_states, merge, merges_of, similarity_of
from trsp_core.method_options import LacoOptions, MethodOptions
from trsp_core.methods.base import TokenCount, Transfer, Work
from trsp_core.methods.baseline import Baseline
from trsp_core.results import PruningPlan
from trsp_core.stage1 import Candidates

_MERGES = "stage1"


@dataclass(frozen=True)
class _Sweep:
    """Where the search stands; a checkpoint is this value.

    Attributes:
        merges: Accepted so far.
        at: Place, among the layers that are there, of the next base; below 0 the sweep is over.
        threshold: Similarity that a merge must have.
        refused: Largest similarity that was too small in this sweep; None where none was.
        tried: Whether this sweep has tried a merge.
    """

    merges: tuple[Merge, ...]
    at: int
    threshold: float
    refused: float | None = None
    tried: bool = False

    @property
    def gone(self) -> tuple[int, ...]:
        return tuple(layer for item in self.merges for layer in item.gone)


class Laco(Baseline):
    """The paper's sweep from the last layers down, with its merges of `merge_layers` layers into one.

    A merge adds the differences of the following layers' linear maps to those of the layer before them
    (`merging`), and is accepted if the final states on a few sequences keep a cosine of `threshold` with the dense
    model's. The next attempt is `interval` layers further down after an accepted merge, one after a refused.

    What differs from the paper: there the threshold decides how many layers go. Here the number is given, so a
    merge never takes more layers than are still wanted, and when a sweep ends too early another begins at the
    top, with the threshold lowered to the best similarity that was refused. The differences are those of the
    paper's formula; the authors' code updates the layer between them, which leaves it equal to the last one merged.
    """

    name = "laco"
    options: LacoOptions

    def __init__(self, options: MethodOptions) -> None:
        if not isinstance(options, LacoOptions):
            raise TypeError("Laco needs LacoOptions")
        super().__init__(options)

    def plan(self, work: Work) -> PruningPlan:
        """Sweep until `work.count` layers are merged away, with a checkpoint after every merge."""
        sweep = _resumed(work) or _Sweep((), _top(len(work.decoder), self.options), self.options.threshold)
        with _Collapse.begun(work, self.options, sweep) as collapse:
            while len(sweep.gone) < work.count:
                sweep = collapse.next(sweep)
        rounds = tuple(item for made in sweep.merges for item in made.rounds())
        return PruningPlan(self.name, len(work.decoder), sweep.gone, rounds)

    def transfer(self, work: Work, plan: PruningPlan) -> Transfer:
        """Merge the plan's layers into those that stay."""
        changed: set[str] = set()
        for item in merges_of(plan):
            changed.update(merge(work.decoder, item.base, item.gone))
        return Transfer(changed=frozenset(changed))


@dataclass(frozen=True)
class _Collapse:
    """The fixed surroundings of the sweeps.

    Attributes:
        windows: The sequences that similarity is measured on.
        wanted: The dense model's final states on them.
        dense: For each layer that something is merged into, its weights as they were.
    """

    work: Work
    options: LacoOptions
    windows: Tensor
    wanted: Tensor
    dense: dict[int, dict[str, Tensor]]

    @classmethod
    @contextmanager
    def begun(cls, work: Work, options: LacoOptions, sweep: _Sweep) -> Iterator[_Collapse]:
        """Put the model where the sweep stands, and back at the end."""
        windows = work.windows[: options.similarity_sequences]
        collapse = cls(work, options, windows, _states(work, windows, ()), {})
        try:
            for item in sweep.merges:
                collapse.merge(item.base, item.gone)
            yield collapse
        finally:
            for before in collapse.dense.values():
                assign(work.decoder, before)

    def merge(self, base: int, gone: tuple[int, ...]) -> dict[str, Tensor]:
        before = merge(self.work.decoder, base, gone)
        self.dense.setdefault(base, before)
        return before

    def next(self, sweep: _Sweep) -> _Sweep:
        """Try one merge, or begin the next sweep."""
        alive = [layer for layer in range(len(self.work.decoder)) if layer not in sweep.gone]
        if sweep.at < 0:
            return self._again(sweep, len(alive))
        gone = self._block(sweep, alive)
        if not gone:
            return replace(sweep, at=sweep.at - 1)
        return self._tried(sweep, alive[sweep.at], gone)

    def _again(self, sweep: _Sweep, alive: int) -> _Sweep:
        """Begin at the top; where all was refused, with the threshold at the best of it."""
        if not sweep.tried:
            raise self._stuck(sweep)
        threshold = sweep.threshold if sweep.refused is None else sweep.refused
        return _Sweep(sweep.merges, _top(alive, self.options), threshold)

    def _block(self, sweep: _Sweep, alive: list[int]) -> tuple[int, ...]:
        """Return the layers that the next merge takes: neighbours behind its base, unprotected, still wanted."""
        behind = alive[sweep.at + 1 : sweep.at + self.options.merge_layers]
        free = set(Candidates.of(len(self.work.decoder), self.options, sweep.gone).layers)
        if not behind or behind[0] not in free:
            return ()
        left = self.work.count - len(sweep.gone)
        block = tuple(layer for layer in behind if layer in free)[:left]
        decoder = self.work.decoder
        possible = decoder.spares((*sweep.gone, *block)) and are_alike(decoder, (alive[sweep.at], *block))
        return block if possible else ()

    def _stuck(self, sweep: _Sweep) -> InvalidSpec:
        name = self.work.decoder.architecture.model_type
        message = (
            f"asks for {self.work.count} layers; after {list(sweep.gone)} no layer of this {name} has one of its"
            " kind before it to merge into."
        )
        return InvalidSpec(Problem("/target", message, self.work.count))

    def _tried(self, sweep: _Sweep, base: int, gone: tuple[int, ...]) -> _Sweep:
        sweep = replace(sweep, tried=True)
        before = self.merge(base, gone)
        similarity = similarity_of(_states(self.work, self.windows, (*sweep.gone, *gone)), self.wanted)
        if math.isnan(similarity):
            raise NumericalFailure(f"laco: with layers {gone} merged into {base} the states are not finite")
        if similarity >= sweep.threshold:
            return self._accepted(sweep, Merge(base, gone, similarity))
        assign(self.work.decoder, before)
        if base not in [item.base for item in sweep.merges]:
            del self.dense[base]
        refused = similarity if sweep.refused is None else max(sweep.refused, similarity)
        return replace(sweep, at=sweep.at - 1, refused=refused)

    def _accepted(self, sweep: _Sweep, item: Merge) -> _Sweep:
        work, sweep = self.work, replace(sweep, merges=(*sweep.merges, item))
        top = _top(len(work.decoder) - len(sweep.gone), self.options)
        sweep = replace(sweep, at=min(sweep.at - self.options.interval, top))
        work.workspace.save(_MERGES, {**asdict(sweep), "tokens": asdict(work.tokens)})
        work.reporter.step(
            len(sweep.gone),
            work.count,
            f"layers {', '.join(map(str, item.gone))} merge into layer {item.base}",
            metrics={"similarity": item.similarity},
            chosen=sweep.gone,
        )
        return sweep


def _top(alive: int, options: LacoOptions) -> int:
    """Return the place of a sweep's first base: with `merge_layers` - 1 layers behind it."""
    return max(0, alive - options.merge_layers)


def _states(work: Work, windows: Tensor, gone: tuple[int, ...]) -> Tensor:
    """Return the final states without `gone`, and count what that cost."""
    total = len(work.decoder)
    work.tokens.forward += windows.numel() * (total - len(gone)) // total
    return final_states(work.decoder, windows, gone, passes=work.passes, should_stop=work.should_stop)


def _resumed(work: Work) -> _Sweep | None:
    saved = work.workspace.load(_MERGES)
    if saved is None:
        return None
    work.tokens.add(TokenCount(**saved.pop("tokens")))
    merges = (Merge(item["base"], tuple(item["gone"]), item["similarity"]) for item in saved["merges"])
    return _Sweep(**{**saved, "merges": tuple(merges)})

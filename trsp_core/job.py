"""The stages of one compression, each from what the workspace holds to a value that it keeps there."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trsp_core import registry
from trsp_core.allocator import returning_freed_memory
from trsp_core.budget import plan_passes
from trsp_core.calibration.windows import (
    CalibrationBatch,
    EvaluationWindows,
    calibration_windows,
)
from trsp_core.checkpoint import load_tokenizer
from trsp_core.config import CompressionSpec
from trsp_core.decoder import Decoder, assign, switched_off
from trsp_core.device import Placement, torch_dtype
from trsp_core.errors import OutputRefused, RoundTripFailed
from trsp_core.export.base import Exported, Exporter, Origin
from trsp_core.files import write_json_atomically
from trsp_core.judge import Surroundings, held_out_windows, paired, perplexities_of_folder, speed_of_removal
from trsp_core.methods.base import Method, TokenCount, Transfer, Work
from trsp_core.mixed_precision import reduced_products
from trsp_core.preflight import Preflight
from trsp_core.progress import StopFn
from trsp_core.reporting import Reporter
from trsp_core.results import PerplexityResult, PruningPlan, RoundTrip, SpeedResult
from trsp_core.round_trip import Probe, failures, round_trip, tolerance_for, write_reference
from trsp_core.sources import SourcePolicy, materialize
from trsp_core.sources.hashes import FileHash, hashed_source
from trsp_core.stored_names import as_stored
from trsp_core.streaming import open_decoder
from trsp_core.surgery import remove_streamed, rename_tensor
from trsp_core.targets import aimed, kept
from trsp_core.transfer_file import load_transfer, save_transfer
from trsp_core.workspace import Workspace

MODEL = "model"
PLAN = "plan.json"
_REFERENCE = "round_trip.safetensors"
_DENSE, _PRUNED, _TRIP, _SOURCE = "dense", "pruned", "round_trip", "source"
_SOURCE_FILES = "source_files"


@dataclass(frozen=True)
class Prepared:
    """What every later stage reads: the dense model's folder and the token windows."""

    folder: Path
    calibration: CalibrationBatch
    texts: tuple[EvaluationWindows, ...]


@dataclass(frozen=True)
class Cut:
    """The saved result and how it came about."""

    plan: PruningPlan
    transfer: Transfer
    trip: RoundTrip
    tokens: TokenCount
    exported: tuple[Exported, ...]


@dataclass(frozen=True)
class Judged:
    """What was measured on the saved result."""

    perplexity: Mapping[str, PerplexityResult]
    speed: Mapping[str, SpeedResult]


@dataclass(frozen=True)
class CompressionJob:
    """One run of the pipeline; every method is a stage or a step of one."""

    spec: CompressionSpec
    policy: SourcePolicy
    checked: Preflight
    placement: Placement
    space: Workspace
    reporter: Reporter
    should_stop: StopFn

    def prepare(self, *, judged: bool = True) -> Prepared:
        """Make the dense folder and the windows; refuses texts that are too short before any work.

        Args:
            judged: Whether the result will be measured, so that the evaluation windows are needed.
        """
        self.reporter.begin("resolve", 1, f"model {self.spec.model}")
        folder = materialize(self.checked.source, self.policy)
        self.reporter.begin("preflight", 1, self._intent())
        self._pin_source()
        for exporter in self._exporters().values():
            exporter.check(folder)
        if judged:
            self.source_files()
        self.reporter.begin("calibrate", 1, f"text {self.spec.calibration.set}")
        tokenizer = load_tokenizer(folder)
        texts = self._texts(tokenizer) if judged else ()
        calibration = calibration_windows(
            self.spec.calibration.references(),
            tokenizer,
            sequences=self.spec.calibration.sequences,
            length=self.checked.sequence_length,
            seed=self.spec.seed,
            policy=self.policy,
        )
        return Prepared(folder, calibration, texts)

    def _texts(self, tokenizer: PreTrainedTokenizerBase) -> tuple[EvaluationWindows, ...]:
        return held_out_windows(
            self.spec.evaluation, tokenizer, length=self.checked.window_length, policy=self.policy
        )

    def _intent(self) -> str:
        facts = self.checked.facts
        streamed = "; its weights stay on disk" if self.placement.streamed else ""
        return f"{self._how_many()} of {facts.layers} layers of a {facts.model_type} will go{streamed}"

    def _how_many(self) -> str:
        count = str(self.checked.layers_to_remove)
        return f"at most {count}" if self.checked.decided_by_measurement else count

    def _pin_source(self) -> None:
        """Refuse to go on from a checkpoint of a model that was changed since."""
        saved = self.space.load(_SOURCE)
        now = {"revision": self.checked.facts.revision}
        if saved not in (None, now):
            raise OutputRefused(
                f"the model {self.spec.model} was changed since this checkpoint was begun; choose another folder."
            )
        self.space.save(_SOURCE, now)

    def source_files(self) -> dict[str, FileHash]:
        """Return hash and size of every file of the source, taken once, before the work reads them."""
        saved = self.space.load(_SOURCE_FILES)
        if saved is None:
            saved = hashed_source(self.checked.source, self.should_stop)
            self.space.save(_SOURCE_FILES, saved)
        return saved

    def load(self, prepared: Prepared) -> tuple[Work, Method]:
        """Open the dense model and load the method."""
        decoder = open_decoder(prepared.folder, self.placement)
        passes = plan_passes(
            decoder.model,
            layers=len(decoder),
            hidden_size=self.checked.facts.hidden_size,
            sequence_length=self.checked.sequence_length,
        )
        work = Work(
            decoder=decoder,
            windows=prepared.calibration.input_ids,
            count=self.checked.layers_to_remove,
            passes=passes,
            seed=self.spec.seed,
            workspace=self.space,
            reporter=self.reporter,
            should_stop=self.should_stop,
        )
        method: Method = registry.create(self.spec.method.name, self.spec.method.options)
        return work, method

    def plan(self, work: Work, method: Method) -> PruningPlan:
        """Choose the layers, or take the choice from the checkpoint."""
        path = self.space.checkpoint / PLAN
        saved = self.space.load("plan")
        if saved:
            work.tokens.add(TokenCount(**saved["tokens"]))
            return PruningPlan.from_dict(saved)
        self.reporter.begin(
            "stage1", work.count, f"{self.spec.method.name} chooses {self._how_many()} layers"
        )
        target = self.spec.target
        with returning_freed_memory(), self._products():
            plan = kept(method.plan(aimed(work, target)), target)
        write_json_atomically(path, {**plan.to_dict(), "tokens": asdict(work.tokens)})
        return plan

    def cut(self, prepared: Prepared) -> Cut:
        """Choose, transfer, remove and prove; the model is dropped at the end."""
        work, method = self.load(prepared)
        plan = self.plan(work, method)
        write_json_atomically(self.space.folder / PLAN, plan.to_dict())
        transfer, tokens = self.transfer(work, method, plan)
        self._remove(prepared, work, plan, transfer)
        trip = self._round_trip(prepared, work, plan)
        return Cut(plan, transfer, trip, tokens, self._export(plan))

    def transfer(self, work: Work, method: Method, plan: PruningPlan) -> tuple[Transfer, TokenCount]:
        """Change the kept weights, or take them from the checkpoint, in the precision they are saved in."""
        saved = load_transfer(self.space)
        if saved:
            assign(work.decoder, saved.tensors)
            return saved.transfer, saved.tokens
        steps = method.transfer_steps(work, plan)
        self.reporter.begin("stage2", steps, "the kept layers learn what the others knew")
        with returning_freed_memory(), self._products():
            transfer = method.transfer(work, plan)
        tensors = self._rounded(work.decoder, plan, transfer)
        save_transfer(self.space, transfer, tensors, work.tokens)
        return transfer, work.tokens

    def _products(self) -> AbstractContextManager[object]:
        """What the choice and the transfer multiply in; everything that is reported is measured outside."""
        return reduced_products(self.placement.device, weights=self.placement.dtype)

    def _rounded(self, decoder: Decoder, plan: PruningPlan, transfer: Transfer) -> dict[str, Tensor]:
        """Return the changed weights that stay, rounded in the model too to the precision of the result."""
        stored = torch_dtype(self.checked.facts.stored_dtype)
        tensors = {
            name: decoder.weight(name).detach().to(stored)
            for name in sorted(transfer.changed)
            if rename_tensor(name, plan.kept, decoder.architecture) is not None
        }
        assign(decoder, tensors)
        return tensors

    def _remove(self, prepared: Prepared, work: Work, plan: PruningPlan, transfer: Transfer) -> None:
        """Write the result from the source's files and the changed weights."""
        target = self.space.folder / MODEL
        if target.exists():
            return
        self.reporter.begin("surgery", 1, f"{len(plan.order)} layers leave")
        decoder = work.decoder
        overrides = {}
        for name in transfer.changed:
            renamed = rename_tensor(name, plan.kept, decoder.architecture)
            if renamed is not None:
                overrides[renamed] = decoder.weight(name).detach()
        stored = as_stored(decoder.model, overrides)
        remove_streamed(prepared.folder, target, plan.kept, overrides=stored, should_stop=self.should_stop)

    def _round_trip(self, prepared: Prepared, work: Work, plan: PruningPlan) -> RoundTrip:
        """Prove in a fresh process that what was saved is what was made.

        Raises:
            RoundTripFailed: If it is not.
        """
        saved = self.space.load(_TRIP)
        if saved:
            return RoundTrip.from_dict(saved)
        self.reporter.begin("round_trip", 1, "a fresh process loads the result")
        facts = self.checked.facts
        reference = self.space.checkpoint / _REFERENCE
        probe = Probe.draw(facts.vocabulary, facts.max_positions, seed=self.spec.seed)
        with switched_off(work.decoder, plan.removed):
            write_reference(work.decoder, probe, reference)
        trip = round_trip(
            self.space.folder / MODEL,
            reference,
            source_folder=prepared.folder,
            tolerance=tolerance_for(self.placement.dtype),
            dtype=self.placement.dtype,
            device=self.placement.device,
            streamed=self.placement.streamed,
            should_stop=self.should_stop,
        )
        if not trip.ok:
            raise RoundTripFailed(f"the saved model is not the model that was made: {failures(trip)}")
        self.space.save(_TRIP, asdict(trip))
        return trip

    def _exporters(self) -> dict[str, Exporter]:
        """Return the formats beside the folder that were asked for."""
        entries = {name: registry.EXPORTS[name] for name in self.spec.export.formats}
        return {name: registry.load(entry.target)() for name, entry in entries.items() if entry.target}

    def _export(self, plan: PruningPlan) -> tuple[Exported, ...]:
        """Write and prove the result in the other formats, or take from the checkpoint that it is done."""
        origin = Origin(self.spec.model, plan.kept, self.checked.facts.layers)
        folder, done = self.space.folder, []
        for name, exporter in self._exporters().items():
            saved = self.space.load(f"export_{name}")
            if saved is None:
                self.reporter.begin("round_trip", 1, f"the result is written as {name} and loaded again")
                made = exporter.export(
                    folder / MODEL, folder, self.spec.export, origin, should_stop=self.should_stop
                )
                saved = asdict(made)
                self.space.save(f"export_{name}", saved)
            done.append(Exported(**saved))
        return tuple(done)

    def judge(self, prepared: Prepared, cut: Cut) -> Judged:
        """Measure the dense and the saved model on the same windows, and their speed side by side."""
        total = 2 * sum(len(text.input_ids) for text in prepared.texts)
        self.reporter.begin("evaluate", total, "dense and pruned on held-out text")
        done = 0

        def tell(windows: int, message: str) -> None:
            nonlocal done
            done += windows
            self.reporter.step(done, total, message)

        around = Surroundings(self.placement, tell, self.should_stop)
        dense = self._once(_DENSE, lambda: self._perplexities(prepared.folder, prepared, around, "dense"))
        gc.collect()
        pruned_folder = self.space.folder / MODEL
        pruned = self._once(_PRUNED, lambda: self._perplexities(pruned_folder, prepared, around, "pruned"))
        gc.collect()
        used = prepared.calibration.sources
        perplexity = paired(prepared.texts, dense, pruned, calibrated_on=used)
        return Judged(perplexity, self._speed(prepared, cut, around))

    def _perplexities(
        self, folder: Path, prepared: Prepared, around: Surroundings, who: str
    ) -> dict[str, float]:
        return perplexities_of_folder(folder, prepared.texts, around, who=who)

    def _once(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return a measurement of an earlier attempt, or take it now."""
        saved = self.space.load(name)
        if saved is None:
            saved = measure()
            self.space.save(name, saved)
        return saved

    def _speed(self, prepared: Prepared, cut: Cut, around: Surroundings) -> dict[str, SpeedResult]:
        options = self.spec.evaluation.speed
        if options is None:
            return {}
        return speed_of_removal(prepared.folder, cut.plan.kept, options, around, seed=self.spec.seed)

"""A comparison from request to table: every row a process of its own, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from trsp_core.compare.inputs import batch_facts, shared_inputs, text_facts
from trsp_core.compare.request import ComparisonRequest, Entry
from trsp_core.compare.results import Comparison, Row, RowProblem, RowResult
from trsp_core.compare.row_process import row_in_process
from trsp_core.compare.space import ComparisonSpace
from trsp_core.compare.task import RowTask
from trsp_core.compare.write import write_comparison
from trsp_core.config import CompressionSpec
from trsp_core.device import place
from trsp_core.errors import InputRefused, WorkFailed
from trsp_core.evaluation.memory import environment
from trsp_core.job import Prepared
from trsp_core.preflight import Preflight, layers_to_remove, preflight, removable_layers
from trsp_core.progress import Progress, ProgressFn, StopFn, ignore, never
from trsp_core.sources import SourcePolicy


def compare(
    request: ComparisonRequest,
    *,
    workdir: Path,
    on_progress: ProgressFn | None = None,
    should_stop: StopFn | None = None,
    policy: SourcePolicy | None = None,
) -> Comparison:
    """Compare methods on one model and write the table and the picture into `workdir`.

    A method that is refused or fails has a row that says so, and the rest goes on.

    Args:
        request: What is compared.
        workdir: Output folder; new, empty, or one that the same request began (then it goes on with the first
            row that is not done) or finished (then its comparison is returned).
        on_progress: Called after every step of every row.
        should_stop: Asked at least a few times a second; when it says so, `Cancelled` is raised, the running
            row is lost and the folder keeps the rows before it.
        policy: Which models and files may be read; by default any local file, the hub only if the environment
            allows it.

    Raises:
        InputRefused: Before any work, if what all rows share cannot be done.
        WorkFailed: If the dense model could not be judged.
        Cancelled: If it was asked to stop.
    """
    policy = policy or SourcePolicy.from_environment()
    shared = preflight(request.unprotected(), policy)
    placement = place(request.device, request.dtype, shared.facts)
    space = ComparisonSpace.open(workdir, request)
    finished = space.finished_report()
    if finished:
        space.finish()
        return Comparison.from_dict(finished)
    prepared = _prepare(request, shared, policy, space)
    run = _Run(request, shared, space, on_progress or ignore, should_stop or never)
    rows = tuple(run.row(place) for place in range(len(request.entries)))
    where = {**environment(placement.device), "dtype": str(placement.dtype)}
    comparison = run.assemble(prepared, rows, where)
    write_comparison(comparison, workdir)
    space.finish()
    return comparison


def _prepare(
    request: ComparisonRequest, shared: Preflight, policy: SourcePolicy, space: ComparisonSpace
) -> Prepared:
    """Read model and texts; a refusal, which only the tokens could tell, leaves no folder behind."""
    try:
        return shared_inputs(request, shared, policy, space)
    except InputRefused:
        space.abandon()
        raise


@dataclass(frozen=True)
class _Run:
    """One run of a comparison."""

    request: ComparisonRequest
    shared: Preflight
    space: ComparisonSpace
    on_progress: ProgressFn
    should_stop: StopFn

    def row(self, place: int) -> Row:
        """Return a row, of an earlier run or made now.

        Raises:
            WorkFailed: If it is the dense model's and has no figures.
        """
        saved = self.space.row(place)
        if saved:
            return saved
        entry = self.request.entries[place]
        found = self._found(place, entry)
        if place == 0 and isinstance(found, RowProblem):
            raise WorkFailed(f"the dense model could not be judged: {found.message}")
        result, problem = (found, None) if isinstance(found, RowResult) else (None, found)
        row = Row(entry.label, entry.described(), entry.reference, result, problem)
        self.space.keep_row(place, row)
        return row

    def _found(self, place: int, entry: Entry) -> RowResult | RowProblem:
        spec = self.request.spec_of(entry)
        try:
            checked = self.shared if entry.reference else self._checked(spec)
        except InputRefused as error:
            return RowProblem(True, error.code, str(error))
        with self.space.working() as folder:
            task = RowTask(spec, checked, entry.reference, self.space.folder, folder, torch.get_num_threads())
            return row_in_process(task, lambda event: self._tell(place, entry, event), self.should_stop)

    def _checked(self, spec: CompressionSpec) -> Preflight:
        """Return the shared preflight with what this method's own options change of it.

        Raises:
            InvalidSpec: If the method cannot reach the target.
        """
        facts = self.shared.facts
        return replace(
            self.shared,
            layers_to_remove=layers_to_remove(spec, facts),
            removable_layers=removable_layers(spec, facts),
        )

    def _tell(self, place: int, entry: Entry, event: Progress) -> None:
        """Hand on a row's event as a part of the whole."""
        overall = (place + event.overall) / len(self.request.entries)
        whole = replace(event, overall=overall, message=f"{entry.label}: {event.message}")
        self.space.log(whole)
        self.on_progress(whole)

    def assemble(self, prepared: Prepared, rows: tuple[Row, ...], where: dict[str, object]) -> Comparison:
        """Return the comparison of rows that are all there."""
        return Comparison(
            spec=self.request.to_dict(),
            spec_fingerprint=self.request.fingerprint(),
            model=self.shared.facts,
            calibration=batch_facts(prepared.calibration),
            texts=text_facts(prepared.texts, self.request.home_texts, prepared.calibration.sources),
            rows=rows,
            environment=where,
            seed=self.request.calibration.seed,
            started_at=self.space.started_at,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

"""What a person sees in the terminal: live progress and the table at the end.

On a terminal progress is a panel that is redrawn; elsewhere (a log, a pipe) it is a plain line now and then.
Words that come from outside are shown as they are: neither as markup nor as terminal codes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trsp_core.progress import STAGES, Progress
from trsp_core.report import numbers

LIVE_INTERVAL = 0.125
"""Seconds between redraws on a terminal."""
PLAIN_INTERVAL = 5.0
"""Seconds between lines elsewhere; a new stage and a finished one are told at once."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_SHOWN_METRICS = {"loss": "loss", "identity_gap": "gap", "perplexity": "perplexity"}


class ProgressView:
    """Shows progress events as they come; a context manager, so that the terminal is always restored.

    Args:
        console: Where to; the standard error stream unless given.
        clock: Seconds that only grow.
    """

    def __init__(
        self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._last: Progress | None = None
        self._shown_at = float("-inf")
        self._figures: Mapping[int, float] = {}
        self._chosen: tuple[int, ...] = ()
        self._live: Live | None = None

    def __enter__(self) -> ProgressView:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None

    def update(self, event: Progress | Mapping[str, Any]) -> None:
        """Take an event, or its JSON form, and show it if the last one shown is old enough."""
        event = event if isinstance(event, Progress) else Progress.from_dict(event)
        before, self._last = self._last, event
        self._figures = event.layers or self._figures
        self._chosen = event.chosen or self._chosen
        interval = PLAIN_INTERVAL if self._live is None else LIVE_INTERVAL
        if _turned(before, event) or self._clock() - self._shown_at >= interval:
            self._shown_at = self._clock()
            self._show(event)

    def _show(self, event: Progress) -> None:
        if self._live is None:
            self._console.print(Text(plain_line(event)), soft_wrap=True, highlight=False)
        else:
            self._live.update(panel(event, self._figures, self._chosen), refresh=True)


def _turned(before: Progress | None, event: Progress) -> bool:
    """Tell whether a stage began or ended with this event."""
    if before is None or before.stage != event.stage:
        return True
    return before.step < before.total and event.step >= event.total


def plain_line(event: Progress) -> str:
    """Return an event as one line."""
    parts = [f"[{event.overall:4.0%}] {_stage_words(event.stage)} {event.step}/{event.total}"]
    if event.message:
        parts.append(printable(event.message))
    parts += _metric_words(event)
    if event.eta_seconds is not None and event.step < event.total:
        parts.append(f"{_duration(event.eta_seconds)} left")
    return " · ".join(parts)


def panel(event: Progress, figures: Mapping[int, float], chosen: tuple[int, ...]) -> RenderableType:
    """Return the live view: stages with ticks, a bar, figures, and one sign a layer."""
    lines: list[RenderableType] = [_stages(event), _bar(event)]
    words = [printable(event.message)] if event.message else []
    words += _metric_words(event)
    if words:
        lines.append(Text(" · ".join(words), overflow="ellipsis", no_wrap=True))
    if figures or chosen:
        lines.append(layer_line(figures, chosen))
    return Group(*lines)


def _stages(event: Progress) -> Text:
    current = STAGES.index(event.stage) if event.stage in STAGES else -1
    text = Text()
    for index, stage in enumerate(STAGES):
        sign, style = (
            ("✓", "green") if index < current else ("●", "bold cyan") if index == current else ("○", "dim")
        )
        text.append(
            f"{sign}{numbers.NO_BREAK}{_stage_words(stage).replace(' ', numbers.NO_BREAK)}", style=style
        )
        text.append("  ")
    return text


def _bar(event: Progress) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    left = "" if event.eta_seconds is None else f"{_duration(event.eta_seconds)} left in this stage"
    bar = ProgressBar(total=1.0, completed=event.overall, width=40)
    row.add_row(
        bar, Text(f"{event.overall:.0%}"), Text(f"{event.step}/{event.total}", "cyan"), Text(left, "dim")
    )
    return row


def layer_line(figures: Mapping[int, float], chosen: tuple[int, ...]) -> Text:
    """Return one sign a layer: a cross where it was chosen, else a block as high as its figure."""
    known = [value for layer, value in figures.items() if layer not in chosen]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    text = Text.assemble(("layers ", "dim"))
    for layer in range(max((*figures, *chosen)) + 1):
        if layer in chosen:
            text.append("×", style="bold red")
        elif layer in figures:
            share = (figures[layer] - low) / (high - low) if high > low else 1.0
            text.append(_BLOCKS[round(share * (len(_BLOCKS) - 1))], style="cyan")
        else:
            text.append("·", style="dim")
    return text


def _metric_words(event: Progress) -> list[str]:
    return [
        f"{name} {numbers.significant(event.metrics[key])}"
        for key, name in _SHOWN_METRICS.items()
        if key in event.metrics
    ]


def _stage_words(stage: str) -> str:
    return printable(stage.replace("_", " "))


def _duration(value: float) -> str:
    return numbers.seconds(value).replace(numbers.NO_BREAK, " ")


def printable(words: str) -> str:
    """Return `words` on one line without control characters, which a terminal would obey."""
    return "".join(sign if sign.isprintable() else " " for sign in words)


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One line of the table at the end."""

    name: str
    dense: str
    pruned: str
    ratio: str


def summary_rows(report: Mapping[str, Any]) -> tuple[SummaryRow, ...]:
    """Return the figures of a `report.json`: layers, perplexity of each set, speed, parameters, bytes."""
    plan, size = report["plan"], report["size"]
    layers = report["model"]["layers"]
    rows = [SummaryRow("layers", str(layers), str(layers - len(plan["removed_layers"])), "")]
    rows += [_perplexity_row(name, item) for name, item in report["perplexity"].items()]
    rows += [_speed_row(name, item) for name, item in report["speed"].items()]
    rows.append(
        _size_row("parameters", numbers.parameters, size["dense_parameters"], size["pruned_parameters"])
    )
    rows.append(_size_row("size on disk", numbers.size, size["dense_bytes"], size["pruned_bytes"]))
    return tuple(rows)


def _perplexity_row(name: str, item: Mapping[str, Any]) -> SummaryRow:
    dense, pruned = item["dense"], item["pruned"]
    ratio = numbers.ratio(pruned / dense) if dense and pruned else ""
    mark = " (calibration text)" if item.get("calibration_text") else ""
    return SummaryRow(f"perplexity {printable(name)}{mark}", _known(dense), _known(pruned), ratio)


def _known(value: float | None) -> str:
    return "–" if value is None else numbers.significant(value)


def _speed_row(name: str, item: Mapping[str, Any]) -> SummaryRow:
    flag = (
        " above its ceiling, do not trust"
        if item["above_ceiling"]
        else f" (at most {numbers.ratio(item['ceiling'])})"
    )
    title = f"{printable(name)} speed, {printable(item['unit'])}"
    dense, pruned = (numbers.significant(item[which]) for which in ("dense", "pruned"))
    return SummaryRow(title, dense, pruned, numbers.ratio(item["ratio"]) + flag)


def _size_row(name: str, write: Callable[[float], str], dense: float, pruned: float) -> SummaryRow:
    return SummaryRow(name, write(dense), write(pruned), numbers.ratio(pruned / dense))


def _removed_words(report: Mapping[str, Any]) -> str:
    removed = report["plan"]["removed_layers"]
    return f"{len(removed)} of {report['model']['layers']} layers removed: {', '.join(map(str, removed))}"


Cells = list[tuple[str, ...]]
"""A header and the rows below it."""


def summary_table(report: Mapping[str, Any]) -> Table:
    """Return the summary of a `report.json` for a terminal."""
    return _drawn(_removed_words(report), _summary_cells(report))


def summary_text(report: Mapping[str, Any]) -> str:
    """Return the same summary as plain text, aligned, one row a line."""
    return _aligned(_removed_words(report), _summary_cells(report))


def _summary_cells(report: Mapping[str, Any]) -> Cells:
    return [("", "dense", "pruned", "ratio"), *map(_cells, summary_rows(report))]


def _cells(row: SummaryRow) -> tuple[str, ...]:
    return (row.name, row.dense, row.pruned, row.ratio)


def _drawn(title: str, cells: Cells) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    for place, name in enumerate(cells[0]):
        table.add_column(name, justify="right" if place else "left")
    for row in cells[1:]:
        table.add_row(*map(Text, row))
    return table


def _aligned(title: str, cells: Cells) -> str:
    first, *widths = (max(map(len, column)) for column in zip(*cells, strict=True))
    lines = [
        row[0].ljust(first)
        + "".join(f"  {cell.rjust(width)}" for cell, width in zip(row[1:], widths, strict=True))
        for row in cells
    ]
    return "\n".join([title, *(line.rstrip() for line in lines)]).replace(numbers.NO_BREAK, " ")


def evaluation_rows(data: Mapping[str, Any]) -> tuple[SummaryRow, ...]:
    """Return the figures of `trsp evaluate`: perplexity of each set, then speed."""
    rows = [_perplexity_row(name, item) for name, item in data["perplexity"].items()]
    return tuple(rows + [_speed_row(name, item) for name, item in data["speed"].items()])


def evaluation_table(data: Mapping[str, Any]) -> Table:
    """Return the figures of `trsp evaluate` for a terminal; without a second model its columns stay out."""
    return _drawn(*_evaluation_cells(data))


def evaluation_text(data: Mapping[str, Any]) -> str:
    """Return the same figures as plain text, aligned, one row a line."""
    return _aligned(*_evaluation_cells(data))


def _evaluation_cells(data: Mapping[str, Any]) -> tuple[str, Cells]:
    title = printable(data["model"]["reference"])
    if data["against"] is None:
        return title, [("", "given"), *((row.name, row.pruned) for row in evaluation_rows(data))]
    against = f"{title} against {printable(data['against']['reference'])}"
    return against, [("", "dense", "given", "ratio"), *map(_cells, evaluation_rows(data))]


def print_summary(console: Console, report: Mapping[str, Any]) -> None:
    """Print the summary of a `report.json`: drawn on a terminal, plain text elsewhere."""
    _print(console, summary_table, summary_text, report)


def print_evaluation(console: Console, data: Mapping[str, Any]) -> None:
    """Print the figures of `trsp evaluate`: drawn on a terminal, plain text elsewhere."""
    _print(console, evaluation_table, evaluation_text, data)


def comparison_cells(data: Mapping[str, Any]) -> Cells:
    """Return the table of a `comparison.json`: a row a method, perplexity of each text with its change, costs."""
    texts = list(data["texts"])
    names = [name for text in texts for name in (printable(text), "×")]
    return [("", *names, "choosing", "transfer", "gradient tokens", "forward tokens", "peak memory")] + [
        (printable(row["label"]), *_comparison_figures(row, texts)) for row in data["rows"]
    ]


def _comparison_figures(row: Mapping[str, Any], texts: Sequence[str]) -> tuple[str, ...]:
    result = row["result"]
    if result is None:
        return ("refused" if row["problem"]["refused"] else "failed", *[""] * (2 * len(texts) + 4))
    figures = [
        words
        for name in texts
        for words in (
            numbers.significant(result["perplexity"][name]),
            numbers.ratio(result["against_dense"][name]),
        )
    ]
    return (
        *figures,
        numbers.seconds(result["choosing_seconds"]),
        numbers.seconds(result["transfer_seconds"]),
        numbers.whole(result["gradient_tokens"]),
        numbers.whole(result["forward_tokens"]),
        numbers.size(result["peak_rss_bytes"]),
    )


def comparison_table(data: Mapping[str, Any]) -> Table:
    """Return the table of a `comparison.json` for a terminal."""
    return _drawn(printable(data["model"]["reference"]), comparison_cells(data))


def comparison_text(data: Mapping[str, Any]) -> str:
    """Return the same table as plain text, aligned, one row a line."""
    return _aligned(printable(data["model"]["reference"]), comparison_cells(data))


def print_comparison(console: Console, data: Mapping[str, Any]) -> None:
    """Print the table of a `comparison.json`, and after it why a row has no figures."""
    _print(console, comparison_table, comparison_text, data)
    for row in data["rows"]:
        if row["problem"]:
            words = printable(f"{row['label']}: {row['problem']['message']}")
            console.print(Text(words), soft_wrap=True)


def _print(
    console: Console,
    draw: Callable[[Mapping[str, Any]], RenderableType],
    write: Callable[[Mapping[str, Any]], str],
    data: Mapping[str, Any],
) -> None:
    if console.is_terminal:
        console.print(draw(data))
    else:
        console.print(Text(write(data)), soft_wrap=True)


class StatusLine:
    """Shows what is being done in one line that is redrawn on a terminal, elsewhere a line now and then.

    Args:
        console: Where to.
        clock: Seconds that only grow.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._shown_at = float("-inf")
        self._status = console.status("") if console.is_terminal else None

    def __enter__(self) -> StatusLine:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def update(self, line: str) -> None:
        """Take a line and show it if the last one shown is old enough."""
        if self._status is not None:
            self._status.update(Text(printable(line)))
        elif self._clock() - self._shown_at >= PLAIN_INTERVAL:
            self._shown_at = self._clock()
            self._console.print(Text(printable(line)), soft_wrap=True)

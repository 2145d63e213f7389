"""JSON, HTML and CSV of a report say the same, and the HTML is one safe, self-contained file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trsp_core.reports import bare_report, example_report
from trsp_core.report import render_fragment, render_html, to_csv, to_json, write_reports
from trsp_core.results import Check, CompressionReport, PerplexityResult

REPORTS = {
    "full": example_report,
    "bare": bare_report,
    "deep": lambda: example_report(layers=120, order=tuple(range(3, 110, 4))),
    "flagged": lambda: _flagged(),
    "parted": lambda: _parted(),
}
VOID = {"meta"}


def _flagged() -> CompressionReport:
    report = example_report()
    speed = {name: replace(item, above_ceiling=True, ratio=1.5) for name, item in report.speed.items()}
    failed = replace(report.round_trip.checks[0], ok=False, figure=1, detail="lost & found")
    trip = replace(report.round_trip, ok=False, warnings=("lost & found",), checks=(failed,))
    one_sided = PerplexityResult(None, 9.25, 3, 8, 21, "00", True)
    return replace(report, speed=speed, round_trip=trip, perplexity={"a/b~c": one_sided})


def _parted() -> CompressionReport:
    report = example_report()
    rounds = tuple(
        replace(
            item,
            part_scores={
                "attention": {layer: score - 0.05 for layer, score in item.scores.items()},
                "mlp": {layer: score + 0.05 for layer, score in item.scores.items()},
            },
        )
        for item in report.plan.rounds
    )
    return replace(report, plan=replace(report.plan, rounds=rounds))


class Page(HTMLParser):
    """Checks nesting; collects elements, facts and the text outside facts and pictures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str]]] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.facts: list[tuple[dict[str, str], str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.elements.append((tag, found))
        if tag not in VOID:
            self.open.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if not self.open:
            return
        tag, attributes = self.open[-1]
        if "data-fact" in attributes:
            self.facts.append((attributes, data))
        elif tag != "style" and not any(name == "svg" for name, _ in self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def _at(data: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        data = data[int(key)] if isinstance(data, list) else data[key]
    return len(data) if isinstance(data, list) else data


def _leaves(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    items = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if items is None:
        yield path, value
    for key, item in items or ():
        yield from _leaves(item, *path, str(key))


@pytest.fixture(params=list(REPORTS))
def report(request: pytest.FixtureRequest) -> CompressionReport:
    return REPORTS[request.param]()


def test_json_reads_back_as_the_same_value(report: CompressionReport) -> None:
    assert CompressionReport.from_dict(json.loads(to_json(report))) == report


def test_rounds_of_a_version_that_scored_no_parts_are_read() -> None:
    data = json.loads(to_json(example_report()))
    for item in data["plan"]["rounds"]:
        assert item.pop("part_scores") == {}
    assert CompressionReport.from_dict(data) == example_report()


def test_every_figure_of_the_html_is_the_json_s(report: CompressionReport) -> None:
    data, page = json.loads(to_json(report)), Page(render_html(report))
    assert len(page.facts) > 10
    for marks, _ in page.facts:
        value = _at(data, marks["data-fact"])
        if "data-over" in marks:
            value = value / _at(data, marks["data-over"])
        if "data-less" in marks:
            value = 1 - value / _at(data, marks["data-less"])
        assert float(marks["data-value"]) == value, marks


UNITS = {
    "": 1,
    "×": 1,
    "%": 0.01,
    "k": 1e3,
    "M": 1e6,
    "B": 1e9,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "ms": 1,
    "s": 1,
    "tokens/s": 1,
}


def test_what_is_shown_is_the_exact_value_rounded(report: CompressionReport) -> None:
    for marks, text in Page(render_html(report)).facts:
        exact = float(marks["data-value"])
        minutes = re.fullmatch(r"(\d+)\u00a0min (\d\d)\u00a0s", text)
        if minutes:
            shown = 60 * int(minutes[1]) + int(minutes[2])
        else:
            number, unit = re.fullmatch(r"(-?[\d.,]+(?:e-?\d+)?)\u00a0?(.*)", text).groups()  # type: ignore[union-attr]
            shown = float(number.replace(",", "")) * UNITS[unit]
        assert shown == pytest.approx(exact, rel=6e-3, abs=6e-4), text


def test_the_layer_map_tells_the_scores_of_parts() -> None:
    report = _parted()
    shown = {attributes["data-fact"] for attributes, _ in Page(render_html(report)).facts}
    first = report.plan.order[0]
    for part in ("attention", "mlp"):
        assert f"/plan/rounds/0/part_scores/{part}/{first}" in shown
    assert "part_scores" not in render_html(example_report())


def test_no_number_stands_in_the_html_outside_facts(report: CompressionReport) -> None:
    """But those of the source's texts, layer indices, and places in the order."""
    data, page = report.to_dict(), Page(render_html(report))
    texts = " ".join(str(part) for path, value in _leaves(data) for part in (*path, value))
    for number in re.findall(r"\d[\d.,]*\d|\d", page.text):
        plain = number.rstrip(".,")
        assert plain in texts or (plain.isdigit() and int(plain) < report.model.layers + 1), number


def test_every_leaf_of_the_json_is_a_row_of_the_csv(report: CompressionReport) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(report))))
    assert rows[0] == ["section", "name", "field", "value"]
    found = {tuple(row[:3]): row[3] for row in rows[1:]}
    assert len(found) == len(rows) - 1
    leaves = list(_leaves(json.loads(to_json(report))))
    assert len(leaves) == len(found)
    for path, value in leaves:
        key = (path[0], "/".join(path[1:-1]), path[-1] if len(path) > 1 else "")
        text = found[key]
        if isinstance(value, bool):
            assert text == ("true" if value else "false")
        elif isinstance(value, (int, float)):
            assert type(value)(text) == value
        else:
            assert text == (value or "")


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1+1", "@SUM(A1)", "\tx"])
def test_no_text_of_the_csv_is_a_formula(name: str) -> None:
    report = example_report(notes=(name,), perplexity={name: PerplexityResult(1.0, 2.0, 1, 8, 7, "00")})
    for row in csv.reader(io.StringIO(to_csv(report))):
        assert all(not cell.startswith(("=", "+", "@", "\t")) for cell in row)
        assert all(re.fullmatch(r"-?[\d.e-]+", cell) for cell in row if cell.startswith("-"))


def test_page_needs_nothing_else(report: CompressionReport) -> None:
    page = Page(render_html(report))
    names = {name for name, _ in page.elements}
    assert not names & {"script", "link", "img", "iframe", "object", "base", "form", "use", "image"}
    for _, attributes in page.elements:
        assert not set(attributes) & {"src", "href", "xlink:href", "srcset", "action", "poster"}
    assert "url(" not in render_html(report)
    assert "@import" not in render_html(report)


def test_fragment_passes_a_strict_policy(report: CompressionReport) -> None:
    page = Page(render_fragment(report))
    assert page.elements[0] == ("article", {"class": "r-report"})
    assert not {name for name, _ in page.elements} & {
        "html",
        "head",
        "body",
        "main",
        "script",
        "style",
        "link",
    }
    for _, attributes in page.elements:
        assert not any(key == "style" or key.startswith("on") or key == "id" for key in attributes)
        assert all(name.startswith("r-") for name in attributes.get("class", "").split())


def test_every_picture_has_words_and_a_table() -> None:
    html = render_html(example_report())
    page = Page(html)
    pictures = [attributes for name, attributes in page.elements if name == "svg"]
    assert len(pictures) == 7
    assert all(item["role"] == "img" and item["aria-label"] for item in pictures)
    for figure in re.findall(r"<figure.*?</figure>", html, re.DOTALL):
        assert figure.count("<svg") == figure.count("<details>") == figure.count("<table") == 1


def test_same_value_same_bytes(report: CompressionReport) -> None:
    assert render_html(report) == render_html(CompressionReport.from_dict(json.loads(to_json(report))))


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (bare_report(), "Speed was not measured."),
        (bare_report(), "No perplexity was measured"),
        (bare_report(), "No gradient step was made, and nothing was refitted"),
        (bare_report(refitted_layers=(3,)), "refitted in closed form"),
        (_flagged(), "above its ceiling, so not to be trusted"),
        (_flagged(), "Not verified."),
        (_flagged(), "lost & found"),
        (_flagged(), "failed"),
        (example_report(), "left-padded batch and each prompt alone"),
        (example_report(), "vLLM is not installed"),
        (_flagged(), "No text was measured that calibration had not seen."),
        (example_report(), "Perplexity on text:valid.txt went from"),
        (example_report(), "removed as the 2nd"),
    ],
)
def test_what_is_missing_or_doubtful_is_said(report: CompressionReport, words: str) -> None:
    assert words in Page(render_html(report)).text


def test_headlines_in_words() -> None:
    html = render_fragment(example_report())
    words = re.sub(
        r"\s+", " ", re.sub(r"<[^>]+>", "", html[html.index("<section") : html.index("r-certificate")])
    )
    for sentence in (
        "Removed 8 of 30 layers With them went 21.1 % of the parameters: 134.5 M → 106.2 M.",
        "Cost 1.77× the perplexity Perplexity on text:valid.txt went from 29.61 to 52.34, over 24 windows",
        "Won 1.30× prompt speed Prompts 1.30× of at most 1.31×, generation 1.26× of at most 1.29×.",
        "The weights take 424.8 MB instead of 538.1 MB.",
    ):
        assert sentence in words


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.sampled_from("<>&\"'`{}%=/~\\;! -abc\n\u202eé"), min_size=1, max_size=30))
def test_names_never_break_out(name: str) -> None:
    base = bare_report()
    hostile = bare_report(
        model=replace(base.model, reference=name, revision=name, model_type=name),
        plan=replace(base.plan, method=name),
        perplexity={name: PerplexityResult(2.5, 3.5, 1, 8, 7, "00", True)},
        speed={name: replace(example_report().speed["prompt"], unit=name)},
        timings={name: 1.5},
        notes=(name,),
        environment={**base.environment, "device_name": name, name: name},
        round_trip=replace(
            base.round_trip,
            loader=name,
            warnings=(name,),
            checks=(Check(name, None, None, None, name, name),),
        ),
    )
    tame = {key: value for key, value in hostile.environment.items() if key != name}
    plain = replace(hostile, model=base.model, environment={**tame, "extra": ""})
    page = Page(render_html(hostile))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in Page(render_html(plain)).elements]
    assert name in page.text


def test_three_files_appear_whole(tmp_path: Path) -> None:
    report = example_report()
    paths = write_reports(report, tmp_path)
    assert {path.name for path in paths} == {"report.json", "report.html", "report.csv"}
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert CompressionReport.from_dict(json.loads((tmp_path / "report.json").read_text())) == report
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_html(report)
    assert (tmp_path / "report.csv").read_text(encoding="utf-8") == to_csv(report)


def test_nothing_is_written_of_a_report_that_json_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_reports(example_report(timings={"stage1": float("nan")}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_old_files_stay_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reports(example_report(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_reports(bare_report(), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_names_that_utf8_cannot_say_are_escaped(tmp_path: Path) -> None:
    report = example_report(notes=("caf\udce9",))
    write_reports(report, tmp_path)
    assert "caf\\udce9" in (tmp_path / "report.html").read_text(encoding="utf-8")

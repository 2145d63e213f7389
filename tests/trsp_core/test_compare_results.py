"""The value of a comparison, and its three written forms."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape

import pytest

from tests.trsp_core.comparisons import AWAY, HOME, comparison, example, result, row
from trsp_core.compare.page import render_page
from trsp_core.compare.results import Comparison
from trsp_core.compare.table import to_csv
from trsp_core.report.facts import Facts


def test_json_gives_the_same_value_back() -> None:
    data = json.loads(json.dumps(example().to_dict()))
    assert Comparison.from_dict(data) == example()
    assert Comparison.from_dict(data).to_dict() == example().to_dict()


def test_what_follows_from_the_figures_stands_beside_them() -> None:
    data = comparison(row("shortgpt", result(27.0, 50.0, transfer_seconds=1.5))).to_dict()
    found = data["rows"][1]["result"]
    assert found["against_dense"] == {HOME: 2.0, AWAY: 1.25}
    assert found["seconds"] == 4.0


def test_rows_are_found_by_name_and_the_failed_are_known() -> None:
    assert example().row("trsp").result == example().rows[6].result
    assert [item.label for item in example().failed] == ["laco"]
    with pytest.raises(KeyError, match="nobody"):
        example().row("nobody")


def test_the_csv_has_a_line_a_row_and_empty_cells_for_the_failed() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(example()))))
    by_label = {item["label"]: item for item in rows}
    assert len(rows) == len(example().rows)
    assert float(by_label["trsp"][f"perplexity {HOME}"]) == 27.0
    assert float(by_label["trsp"][f"against dense {AWAY}"]) == 82.0 / 40.0
    assert by_label["trsp"]["removed_layers"] == "20 21 22 23 24 25 26 27"
    assert (by_label["laco"][f"perplexity {HOME}"], by_label["laco"]["reference"]) == ("", "false")
    assert by_label["laco"]["problem"].startswith("8 layers are out of reach")


def test_no_label_becomes_a_formula() -> None:
    table = to_csv(comparison(row("=1+1", result(1.0, 1.0))))
    assert "\n'=1+1," in table


def test_every_figure_of_the_page_is_a_figure_of_the_json() -> None:
    facts = Facts(example().to_dict())
    found = re.findall(r'data-value="([^"]*)" data-fact="([^"]*)"', render_page(example()))
    assert len(found) > 60
    for value, source in found:
        raw = facts.raw(unescape(source))
        assert float(value) == (len(raw) if isinstance(raw, list) else raw), source


def test_the_page_names_the_best_of_each_text() -> None:
    page = render_page(example())
    cards = re.findall(r'<h2>Best on ([^<]*) <.*?<p class="r-big">([^<]*)</p>', page, re.DOTALL)
    assert [(unescape(text), winner) for text, winner in cards] == [(HOME, "trsp"), (AWAY, "trsp")]
    best = re.findall(r'<td class="r-best"><data value="([^"]*)"', page)
    assert {"27.0", "82.0"} <= set(best)
    assert "11.0" not in best, "a reference does not compete"


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_is_given() -> None:
    page = render_page(example())
    assert not re.search(r"<script|<link|\bsrc=|url\(|@import|<poems>", page)
    assert set(re.findall(r"https?://[^\"' <]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "plays &amp; &lt;poems&gt;.txt" in page
    assert "8 layers are out of reach" in page


def test_a_page_without_a_single_success_says_why() -> None:
    failed = row("laco", None, refused=True, code="invalid_spec", message="asks for too many layers")
    page = render_page(comparison(failed))
    assert "asks for too many layers" in page
    assert "Best on" not in page

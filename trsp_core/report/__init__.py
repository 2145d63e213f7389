"""The report of a compression: JSON, HTML and CSV made from one `CompressionReport`, so that they agree."""

from trsp_core.report.csv import to_csv
from trsp_core.report.html import TEMPLATES, render_fragment, render_html
from trsp_core.report.json import to_json
from trsp_core.report.write import write_reports

__all__ = ["TEMPLATES", "render_fragment", "render_html", "to_csv", "to_json", "write_reports"]

"""The report of a study: its tables and figures on one page (page.html) that opens from disk, without a network."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from lib.report import committed, published, tables
from lib.report.findings import findings


def page(reports: Path, study: str, order: str) -> str:
    """The report of a study as one HTML page, from a folder of reports. order: the main one, which is compared."""
    results = tables.read(reports / "results" / study)
    compared = [content for content in results if content["order"] == order]

    def encoded(name: str) -> str:
        path = reports / "figures" / study / f"{name}.png"
        return base64.b64encode(path.read_bytes()).decode() if path.exists() else ""

    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    return templates.get_template("page.html").render(
        study=study,
        encoded=encoded,
        tasks=[f"{t} ({n})" for t, n in zip(compared[0]["tasks"], compared[0]["classes"], strict=True)],
        runs=len(compared),
        summary=tables.named_summary(compared),
        verdicts=committed.compare(reports / "results" / study),
        committed=committed,
        findings=findings(results, order),
        published={
            order: published.beside(results, study, order, published.read(reports / "published.csv"))
            for name, order in published.PLACES
            if name == study
        },
        costs=tables.costs(reports / "cost" / study),
    )

"""The report of a study: its tables and figures on one page (page.html) that opens from disk, without a network."""

import base64
from pathlib import Path

import pandas as pd
from jinja2 import Environment

from lib.report import committed, published, tables
from lib.report.findings import findings

TEMPLATE = Path(__file__).with_name("page.html")


def page(reports: Path, study: str, order: str) -> str:
    """The report of a study as one HTML page, from a folder of reports. order: the main one, which is compared."""
    results = tables.read(reports / "results" / study)
    compared = [content for content in results if content["order"] == order]

    def encoded(name: str) -> str:
        path = reports / "figures" / study / f"{name}.png"
        return base64.b64encode(path.read_bytes()).decode() if path.exists() else ""

    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text())
    return template.render(
        study=study,
        encoded=encoded,
        tasks=[f"{t} ({n})" for t, n in zip(compared[0]["tasks"], compared[0]["classes"], strict=True)],
        runs=len(compared),
        summary=tables.named_summary(compared),
        verdicts=committed.compare(reports / "results" / study),
        committed=committed,
        findings=findings(results, order),
        published=beside_published(results, study, reports / "published.csv"),
        costs=tables.costs(reports / "cost" / study),
    )


def beside_published(results: list[tables.Content], study: str, file: Path) -> dict[str, pd.DataFrame]:
    """What was measured beside what others published, by title; empty for a study of which nothing is published."""
    parts = {}
    for order in [order for name, order in published.PLACES if name == study]:
        facts = published.read(file)
        parts[f"Order {order}"] = published.beside(results, study, order, facts)
        by_task = published.by_task(results, study, order, facts)
        if len(by_task):
            parts[f"Order {order}, by data set"] = by_task
    return parts

"""The report of a study on one page that opens from disk, without a network (page.html, page.css, page.js); slides."""

import base64
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from pandas import DataFrame

from lib.report import claims, committed, front, goals, published, tables

TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
STORY = (  # slides between the first and the findings: heading, what to say, figure
    ("The tasks", "Each has its own classes. They come one after the other.", "tasks"),
    ("What CLIP can do before", "It classifies by names alone. This ability should stay.", "zero_shot"),
)


def slides(reports: Path, study: str, order: str, limits: str = "") -> str:
    """Ten slides to teach from, one HTML page beside the report: its findings, a screen each (slides.html).

    Figures are not inside: the page names them by their place.
    """
    results = tables.read(reports / "results" / study)
    compared, judged = [content for content in results if content["order"] == order], claims.table(results)
    figures = reports / "figures" / study
    return TEMPLATES.get_template("slides.html").render(
        **_first_screen(results, compared, judged, study, order),
        tasks=compared[0]["tasks"],
        story=[each for each in STORY if (figures / f"{each[-1]}.png").exists()],
        exists=lambda name: (figures / f"{name}.png").exists(),
        folder=f"{'' if study == 'mini' else '../'}figures/{study}",
        limits=limits,
    )


def page(reports: Path, study: str, order: str, limits: str = "") -> str:
    """The report of a study as one HTML page (page.html), from a folder of reports.

    order: the main one. limits: what every table says of pictures that were left out.
    """
    results = tables.read(reports / "results" / study)
    compared = [content for content in results if content["order"] == order]
    judged = claims.table(results)

    def encoded(name: str) -> str:
        path = reports / "figures" / study / f"{name}.png"
        return base64.b64encode(path.read_bytes()).decode() if path.exists() else ""

    numbered = count(1)
    return TEMPLATES.get_template("page.html").render(
        **_first_screen(results, compared, judged, study, order),
        number=lambda: f"Figure {next(numbered)}.",
        encoded=encoded,
        tasks=[f"{t} ({n})" for t, n in zip(compared[0]["tasks"], compared[0]["classes"], strict=True)],
        runs=len(compared),
        limits=limits,
        claims=judged,
        goals=goals.table(results) if claims.BEYOND in tables.by_run(results) else None,
        comparison=tables.comparison(compared),
        summary=tables.summary(compared).assign(run=lambda table: table["run"].map(tables.name)),
        verdicts=committed.compare(reports / "results" / study),
        committed=committed,
        published={
            order: published.beside(results, study, order, published.read(reports / "published.csv"))
            for name, order in published.PLACES
            if name == study
        },
        costs=tables.costs(reports / "cost" / study),
        walked=front.walked(reports / "tables" / study / "walk.json"),
    )


def _first_screen(
    results: list[tables.Content], compared: list[tables.Content], judged: DataFrame, study: str, order: str
) -> dict[str, Any]:
    """What the page begins with, and what can be played with (front.py)."""
    leading = [content for content in compared if tables.label(content) in front.EIGHT]
    return {
        "study": study,
        "order": order,
        "up": "../" if study == "mini" else "../../",
        "method": tables.name(claims.METHOD),
        "sentence": front.in_a_sentence(judged),
        "numbers": front.numbers(results),
        "eight": tables.comparison(leading),
        "findings": [(finding, front.of_finding(judged, finding)) for finding in front.FINDINGS],
        "played": front.played(results, order),
        "whole": len(results),
    }

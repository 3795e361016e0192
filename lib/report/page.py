"""The report of a study on one page that opens from disk, without a network (page.html, page.css, page.js); slides."""

import base64
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from lib.report import claims, committed, front, goals, published, tables
from lib.report.looks import name
from lib.report.tables import Content

TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
STORY = (  # slides between the first and the findings: heading, what to say, figure
    ("The tasks", "Each has its own classes. They come one after the other.", "tasks"),
    ("What CLIP can do before", "It classifies by names alone. This ability should stay.", "zero_shot"),
)


def pages(reports: Path, study: str, order: str, limits: str = "") -> dict[str, str]:
    """By file name, two HTML pages of a study, from a folder of reports.

    index.html is the report on one page, its figures inside (page.html). slides.html are ten slides to teach from, the
    same findings a screen each (slides.html); they lie beside it and name the figures by their place. order: the main
    one. limits: what every table says of pictures that were left out.
    """
    results = tables.read(reports / "results" / study)
    compared = [content for content in results if content["order"] == order]
    shared = _on_both(results, compared, study, order) | {"limits": limits}
    figures, numbered = reports / "figures" / study, count(1)

    def exists(name: str) -> bool:
        return (figures / f"{name}.png").exists()

    def encoded(name: str) -> str:
        return base64.b64encode((figures / f"{name}.png").read_bytes()).decode() if exists(name) else ""

    slides = TEMPLATES.get_template("slides.html").render(
        **shared,
        tasks=compared[0]["tasks"],
        story=[each for each in STORY if exists(each[-1])],
        exists=exists,
        folder=f"{'' if study == 'mini' else '../'}figures/{study}",
    )
    index = TEMPLATES.get_template("page.html").render(
        **shared,
        **_on_the_report(results, compared, reports, study),
        number=lambda: f"Figure {next(numbered)}.",
        encoded=encoded,
    )
    return {"index.html": index, "slides.html": slides}


def _on_both(results: list[Content], compared: list[Content], study: str, order: str) -> dict[str, Any]:
    """What both pages show: the first screen, the findings, and what can be played with (front.py)."""
    judged = claims.table(results)
    leading = [content for content in compared if tables.label(content) in front.EIGHT]
    return {
        "study": study,
        "order": order,
        "up": "../" if study == "mini" else "../../",
        "method": name(claims.METHOD),
        "claims": judged,
        "sentence": front.in_a_sentence(judged),
        "numbers": front.numbers(results),
        "eight": tables.comparison(leading),
        "findings": [(finding, front.of_finding(judged, finding)) for finding in front.FINDINGS],
        "played": front.played(results, order),
        "whole": len(results),
    }


def _on_the_report(results: list[Content], compared: list[Content], reports: Path, study: str) -> dict[str, Any]:
    """What the report alone shows: all runs and their parameters, folded."""
    return {
        "tasks": [f"{t} ({n})" for t, n in zip(compared[0]["tasks"], compared[0]["classes"], strict=True)],
        "runs": len(compared),
        "goals": goals.table(results) if claims.BEYOND in tables.by_run(results) else None,
        "comparison": tables.comparison(compared),
        "summary": tables.summary(compared).assign(run=lambda table: table["run"].map(name)),
        "verdicts": committed.compare(reports / "results" / study),
        "committed": committed,
        "published": {
            order: published.beside(results, study, order, published.read(reports / "published.csv"))
            for name, order in published.PLACES
            if name == study
        },
        "costs": tables.costs(reports / "cost" / study),
        "walked": front.walked(reports / "tables" / study / "walk.json"),
    }

"""The report's first screen, its findings, and what a reader can play with: all from result files."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lib.report import claims, tables
from lib.report.claims import BEYOND, FAILS, HOLDS, LABELS, METHOD, OPEN, UNTESTED, Evidence
from lib.report.looks import name
from lib.report.tables import Content

EIGHT = (
    "finetune_single", "zero_shot", "finetune", "zscl", "rail_primal", "moe_confidence", METHOD, BEYOND
)  # fmt: skip
PLAYED = (*EIGHT, "icarl", "adapter_per_task", "moe_adapters+no_freeze")  # runs of the matrix to play with
UNION = LABELS["union"]
IN_WORDS = {  # a verdict on one claim, and on several
    HOLDS: ("holds", "hold"),
    FAILS: ("does not hold", "do not hold"),
    OPEN: ("is not told apart", "are not told apart"),
    UNTESTED: (UNTESTED, UNTESTED),
}


@dataclass(frozen=True)
class Finding:
    """A question, the claims that answer it (how their texts begin), figures with captions, and the protocol."""

    question: str
    claims: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    protocol: str


FINDINGS = (
    Finding(
        "Is it better than its rivals?",
        ("Better than every rival",),
        (
            ("metrics", "All methods, decided per picture. Filled: among own classes; open: among those of all tasks."),
            ("differences", "The method minus each run in points, paired. Filled: stands after Holm's correction."),
        ),
        "Per picture; the strongest rival counts; Holm's correction over all of them.",
    ),
    Finding(
        "Does zero-shot ability stay, and who answers?",
        ("Zero-shot", "DDAS"),
        (("selector_confusion", "Where DDAS sends the pictures of each task, once all tasks are learned."),),
        "Zero-shot: Transfer against the untouched CLIP. DDAS: Average against being told the task.",
    ),
    Finding(
        "Does freezing prevent forgetting?",
        ("Activate-freeze",),
        (
            ("ablations/freeze", "What is frozen after a task. Right: each variant minus the paper's setting."),
            ("inside", "Choices on frozen experts, their entropy, what tasks share, and whether old answers change."),
        ),
        "Points of Forgetting, turned so that more is better.",
    ),
    Finding(
        "How many experts, and how many for a picture?",
        ("More experts", "Two experts", "A mixture"),
        (
            ("ablations/experts", "How many experts a block has. Right: each variant minus the paper's setting."),
            ("ablations/top_k", "How many experts a picture is sent to."),
        ),
        "Average, on a shorter order that begins with the hardest words.",
    ),
    Finding(
        "What does it cost?",
        ("60 %",),
        (
            ("pareto", "Average beside the seconds of a run and the bytes that it keeps."),
            ("selector_scaling", "Selector and experts with up to 100 tasks, beside the frozen image tower."),
        ),
        "Parameters trained over all tasks; seconds on one machine.",
    ),
)


def of_finding(judged: pd.DataFrame, finding: Finding) -> pd.DataFrame:
    """The lines of the table of claims that belong to a finding."""
    mine = [text.startswith(finding.claims) for text in judged["claim"]]
    return pd.DataFrame(judged.loc[mine]).drop(columns=["pairs"])


def in_a_sentence(judged: pd.DataFrame) -> str:
    """How many of the paper's claims have which verdict, under union labels, which tell nothing of the task."""
    counts = Counter(judged["union labels"])
    parts = [f"{counts[each]} {words[counts[each] > 1]}" for each, words in IN_WORDS.items() if counts[each]]
    return f"The paper's {len(judged)} claims, picture by picture among the classes of all tasks: {', '.join(parts)}."


def numbers(results: list[Content]) -> list[tuple[str, str]]:
    """Up to four paired differences with their intervals, and what they are; among the classes of all tasks."""
    evidence = Evidence(claims.on_all_tasks(results), UNION)
    gaps = {
        "points of Transfer against the untouched CLIP": evidence.gap(METHOD, "zero_shot", "transfer"),
        "points of Average lost by DDAS, against being told the task": evidence.gap(
            METHOD, METHOD, "average", "sample", "oracle"
        ),
        "points of Last against RAIL, which trains no tower": evidence.gap(METHOD, "rail_primal", "last"),
        "points of Average that the method beyond the paper adds": evidence.gap(BEYOND, METHOD, "average"),
    }
    return [(str(gap), f"{text} (n = {gap.pairs})") for text, gap in gaps.items() if gap]


def played(results: list[Content], order: str) -> str:
    """What the page's script draws, as JSON: of some runs of an order, first seed, matrices, routes and experts."""
    runs: dict[str, Any] = {}
    for run, contents in tables.by_run(results, order).items():
        content = min(contents, key=lambda each: each["seed"])
        if run in PLAYED and len(content["accuracy"]["sample"][0]) == len(content["tasks"]):
            parts, routed = {"own": "sample", "union": f"{UNION}sample"}, content.get("routed", {})
            runs[name(run)] = {
                "seed": content["seed"],
                "matrix": {space: content["accuracy"].get(decision) for space, decision in parts.items()},
                "routed": routed.get("sample") or routed.get(f"{UNION}sample"),
                "experts": {block: use["counts"] for block, use in content.get("experts", {}).get("image", {}).items()},
                "tasks": content["tasks"],
            }
    return in_script(json.dumps(runs))


def walked(file: Path) -> str:
    """The pictures to walk through (lib.study.walk), as JSON; empty if there are none."""
    return in_script(json.dumps(json.loads(file.read_text()))) if file.exists() else ""


def in_script(text: str) -> str:
    """JSON that cannot end the script element that holds it."""
    return text.replace("</", "<\\/")

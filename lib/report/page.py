"""The report of a study: tables, figures and findings on one page (page.html) that opens from disk, without a network.

Each number and each verdict of a finding is computed from the result files, none is typed in. In FINDINGS `{run
metric}` or `{run metric decision}` is a mean with its 95 % interval, `{a - b}` a difference of means, `{a < b}` the
verdict on a claim.
"""

import base64
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader

from lib.report import committed, published, tables
from lib.report.tables import Content, by_run, in_words, interval, value

FINDINGS = {
    "Are old tasks kept?": "Continual fine-tuning forgets {finetune forgetting} points and ends at Last "
    "{finetune last} %; the method forgets {moe_adapters forgetting} and ends at {moe_adapters last} %. "
    "{finetune last < moe_adapters last}",
    "Does zero-shot ability stay?": "The untouched CLIP has Transfer {zero_shot transfer} %. Continual fine-tuning "
    "leaves {finetune transfer} %, the method {moe_adapters transfer} %: it loses "
    "{zero_shot transfer - moe_adapters transfer} points, because learned tasks claim some of the pictures.",
    "Is it the freezing?": "With the true task given, the mixture forgets {moe_adapters+no_freeze forgetting oracle} "
    "points without freezing and {moe_adapters forgetting oracle} with it. "
    "{moe_adapters forgetting oracle < moe_adapters+no_freeze forgetting oracle}",
    "What does deciding per batch change?": "One decision for many pictures of one task, as in the released code, "
    "gives Last {moe_adapters last batch} %; a decision for each picture, as in the paper, {moe_adapters last} %; the "
    "oracle {moe_adapters last oracle} %.",
    "How far is it to one model a task?": "One fine-tuned model a task, which is told the task, reaches "
    "{finetune_single last} %. The method with the oracle is {finetune_single last - moe_adapters last oracle} points "
    "below it; the selector costs another {moe_adapters last oracle - moe_adapters last}.",
    "How do the other methods fare?": "iCaRL has Last {icarl last} % and Transfer {icarl transfer} %; ZSCL {zscl last} "
    "and {zscl transfer}; RAIL, regression on frozen features, {rail_primal last} and {rail_primal transfer}; the "
    "method {moe_adapters last} and {moe_adapters transfer}.",
    "Would a simpler selector do?": "With a mean for each class and one covariance a task in place of autoencoders, "
    "the same experts end at Last {moe_adapters+gaussian last} % and Transfer {moe_adapters+gaussian transfer} %.",
}


@dataclass(frozen=True)
class Fields:
    """The fields of findings on one order's results. Raises KeyError if a run or a metric has no results."""

    runs: dict[str, list[Content]]

    def of_seeds(self, term: str) -> list[float]:
        """'run metric' or 'run metric decision' of every seed, in percent or points."""
        run, metric, *decision = term.split()
        values = [value(content, metric, *decision) for content in self.runs[run]]
        if np.isnan(values).any():
            raise KeyError(term)
        return values

    def __getitem__(self, key: str) -> str:
        first, sign, second = key.partition(" - ") if " - " in key else key.partition(" < ")
        if not sign:
            return in_words(self.of_seeds(first))
        means, halves = np.array([interval(self.of_seeds(term)) for term in (first, second)]).T
        if sign == " - ":
            return f"{means[0] - means[1]:.1f}"
        apart = means[1] - means[0] > np.nansum(halves)  # the intervals do not overlap; one seed has none
        return f"The paper's claim {'holds' if apart else 'does not hold'} here."


def findings(results: list[Content], order: str) -> dict[str, str]:
    """A paragraph by title, for each finding whose runs have results of the order."""
    fields, written = Fields(by_run(results, order)), {}
    for title, text in FINDINGS.items():
        with suppress(KeyError):
            written[title] = text.format_map(fields)
    return written


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

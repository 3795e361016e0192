"""The report of a study: its tables and figures on one page that opens from disk, without a network."""

import base64
import json
from pathlib import Path

import pandas as pd
from jinja2 import Environment

from lib.report import committed, published, tables
from lib.report.findings import findings

FIGURES = {
    "start_here": "The story in three tasks: continual fine-tuning forgets, MoE-Adapters do not.",
    "tasks": "The tasks, in the order of learning: some training pictures of each.",
    "zero_shot": "What the untouched CLIP knows of each task before anything is learned.",
    "metrics": "All methods, decision per picture: means, with 95 % intervals over n seeds (n = 1 has none).",
    "matrices": "Accuracy (%) on each task (column) after learning each task (row), first seed. "
    "Right of the white line a task is still to come, left of it it was learned.",
    "tasks_over_time": "Each task over time. The dotted line marks when it is learned; bands are the range over seeds.",
    "selector_confusion": "Where the selector sends the pictures of each task, once all tasks are learned.",
    "selector_errors": "Reconstruction errors of the first task's autoencoder on the pictures of every task.",
    "selector_roc": "How well each task's reconstruction error tells its pictures from all others.",
    "selector_threshold": "Stricter or more generous thresholds: own pictures against strangers.",
    "confusion": "The same decisions, as counted inside the first seed's run of the method.",
    "cost": "What each method costs, measured in one go.",
    "selector_scaling": "Selector and experts with up to 100 tasks, beside the frozen image tower.",
    "experts": "Shares of each task's choices among the experts, by tower and block; a dot: frozen after the task.",
    "frozen_pool": "Experts of a block frozen so far: mean over blocks and seeds, with the range.",
}
PANELS = {
    "experts": "How many experts a block has.",
    "top_k": "How many experts a picture is sent to.",
    "freeze": "What is frozen after a task.",
    "router": "A router for each task, or one that all share.",
    "text_token": "The token that the text router reads.",
    "noise_balance": "Noise of the gates in training, and the balance loss that the released code leaves out.",
    "bottleneck": "The width of an expert.",
    "place": "Where adapters sit.",
    "shots": "Training pictures of a class.",
    "cut": "The same classes as more tasks.",
    "order": "Three orders of the eight tasks.",
    "steps": "More training steps, on the main order.",
    "selector_kind": "What the selector judges by.",
    "selector_code": "The width of the autoencoders' code.",
    "selector_threshold": "The threshold.",
    "selector_batch": "Pictures that share one decision, of one task or mixed.",
}
PAGE = """{% macro table(frame) %}
<div class=wide>{{ frame.to_html(index=False, border=0, na_rep="") | safe }}</div>
{% endmacro %}
{% macro figure(name, caption) %}{% set data = encoded(name) %}{% if data %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ data }}"><figcaption>{{ caption }}</figcaption></figure>
{% endif %}{% endmacro %}
<!doctype html>
<html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>
<title>Study {{ study }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
img { max-width: 100%; height: auto } figure { margin: 2rem 0 } figcaption { color: #444 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
td, th { padding: .3rem .7rem; text-align: right } td:first-child, th:first-child { text-align: left }
.dataframe td { white-space: nowrap } .dataframe td:first-child { white-space: normal; min-width: 8rem }
tr:nth-child(even) { background: #f2f2f2 } thead { border-bottom: 2px solid #333 }
details { margin: 1rem 0 } summary { cursor: pointer }
</style></head><body>
<h1>Continual learning for CLIP with MoE-Adapters: study {{ study }}</h1>
<p>{{ tasks | length }} tasks (classes): {{ tasks | join(", ") }}. {{ count }} runs side by side.</p>
<p><b>Transfer</b>: accuracy on tasks not yet learned. <b>Average</b>: over all times and tasks. <b>Last</b>: after all
tasks. All in percent. <b>Forgetting</b>: points lost since each task's best. Mean ± 95 % interval over seeds.
<b>sample</b>: the selector decides for each picture; <b>batch</b>: once for many pictures of one task, as in the
released code; <b>oracle</b>: the true task is given; <b>-</b>: the method has nothing to decide.</p>
{{ table(summary) }}
<h2>Your run and ours</h2>
<details><summary>Beside the committed results: {{ in_one_line }}</summary>
{% if verdicts | length %}
{% for verdict, text in advice.items() %}<p><b>{{ verdict }}</b>: {{ text }}</p>{% endfor %}
<p>{{ how }}</p>{{ table(verdicts) }}{% endif %}
</details>
{% if findings %}<h2>What we learned</h2>{% endif %}
{% for title, text in findings %}<h3>{{ title }}</h3><p>{{ text }}</p>{% endfor %}
<h2>Figures</h2>
{% for name, caption in figures.items() %}{{ figure(name, caption) }}{% endfor %}
{% if published %}<h2>Beside published numbers</h2>
<p>Measured here (mean ± 95 % interval over seeds, percent), as published (sources: reports/published.csv), and the
difference in points. Empty: not measured yet, or not published. The released code decides once for many pictures
(batch) and tests class-incremental learning with router noise.</p>{% endif %}
{% for title, lines in published.items() %}<h3>{{ title }}</h3>{{ table(lines) }}{% endfor %}
<h2>Ablations</h2>
<p>Variants of the method on a shorter order of tasks. Filled: decided per picture; open: the true task given. The grey
band is the method in this study's own setting, its 95 % interval over seeds; n, the number of seeds, is under each
variant: read a single seed inside the band as no difference.</p>
{% for name, caption in panels.items() %}{{ figure("ablations/" + name, caption) }}{% endfor %}
<h2>Backbone</h2>
{{ figure("../pretrain", "The tiny CLIP on held-out pictures of its own world.") }}
<h2>Cost</h2>
<p>Of the last run of each, on the machine it ran on.</p>
{{ table(costs) }}
</body></html>
"""


def page(reports: Path, study: str, order: str) -> str:
    """The report of a study as one HTML page, from a folder of reports. order: the main one, which is compared."""
    results = tables.read(reports / "results" / study)
    compared = [content for content in results if content["order"] == order]
    verdicts = committed.compare(reports / "results" / study)

    def encoded(name: str) -> str:
        path = reports / "figures" / study / f"{name}.png"
        return base64.b64encode(path.read_bytes()).decode() if path.exists() else ""

    return (
        Environment(autoescape=True, trim_blocks=True)
        .from_string(PAGE)
        .render(
            encoded=encoded,
            study=study,
            tasks=[f"{t} ({n})" for t, n in zip(compared[0]["tasks"], compared[0]["classes"], strict=True)],
            count=len(compared),
            summary=tables.named_summary(compared),
            in_one_line=committed.in_one_line(verdicts),
            verdicts=committed.as_table(verdicts),
            advice=committed.ADVICE,
            how=committed.HOW,
            findings=findings(results, order),
            figures=FIGURES,
            published=beside_published(results, study, reports / "published.csv"),
            panels=PANELS,
            costs=costs(reports / "cost" / study),
        )
    )


def beside_published(results: list[tables.Content], study: str, file: Path) -> dict[str, pd.DataFrame]:
    """What was measured beside what others published, by title; empty for a study of which nothing is published."""
    parts = {}
    for order in [order for name, order in published.PLACES if name == study]:
        facts = published.read(file)
        parts[f"Order {order}"] = published.beside(results, study, order, facts)
        parts[f"Order {order}, by data set"] = published.by_task(results, study, order, facts)
    return {title: lines for title, lines in parts.items() if len(lines) or "," not in title}


def costs(folder: Path) -> pd.DataFrame:
    """One line a run: seconds of training and evaluation, peak memory, from a folder of cost files."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        cost = json.loads(path.read_text())
        seconds = pd.DataFrame(cost["seconds"].values()).sum().round(0)
        lines.append({"run": path.stem, **{f"{part} (s)": int(number) for part, number in seconds.items()}})
        lines[-1]["peak memory (MB)"] = max(cost["peak_memory_mb"].values())
    return pd.DataFrame(lines)

"""The report of a study: its tables and figures on one page that opens from disk, without a network.

`python -m lib.report.page params.yaml` writes reports/index.html (for another study reports/<study>/index.html).
"""

import base64
import html
import json
import sys
from pathlib import Path

import pandas as pd

from lib.report import published, tables
from lib.report.figures import NAMES, by_run
from lib.report.findings import findings
from lib.study import params, plan
from lib.study.paths import NOTEBOOKS, REPORTS, ROOT

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
    "routes": "Gates of a router with random weights on pictures of every task.",
}
ABLATIONS = (
    "<p>Variants of the method on a shorter order of tasks. Filled: decided per picture; open: the true task given. "
    "The grey band is the paper's setting, its 95 % interval over seeds; n, the number of seeds, is under each "
    "variant: read a single seed inside the band as no difference.</p>"
)
PUBLISHED = (
    "<p>Measured here (mean ± 95 % interval over seeds, percent), as published (sources: reports/published.csv), and "
    "the difference in points. Empty: not measured yet, or not published. The released code decides once for many "
    "pictures (batch) and tests class-incremental learning with router noise.</p>"
)
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
MARKS = ("<!-- results: `python -m lib.report.page --readme` writes this table -->", "<!-- end of results -->")
READMES = (ROOT / "README.md", NOTEBOOKS / "course" / "README.md")  # that hold the table of results
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
img { max-width: 100%; height: auto } figure { margin: 2rem 0 } figcaption { color: #444 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
td, th { padding: .3rem .7rem; text-align: right } td:first-child, th:first-child { text-align: left }
.dataframe td { white-space: nowrap } .dataframe td:first-child { white-space: normal; min-width: 8rem }
tr:nth-child(even) { background: #f2f2f2 } thead { border-bottom: 2px solid #333 }
"""


def page(study: params.Study) -> str:
    """The report as one HTML page that opens by itself."""
    title = f"<title>Study {html.escape(study.study)}</title>"
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'>{title}"
    return f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{body(study)}</body></html>\n"


def body(study: params.Study) -> str:
    """The report's tables, figures as data, and costs."""
    found = compared(study)
    folder = REPORTS / "figures" / study.study
    parts = [_heading(study, found), _table(named_summary(found)), _learned(study), "<h2>Figures</h2>"]
    parts += [_figure(folder / f"{name}.png", text) for name, text in FIGURES.items()]
    parts += [_published(study), "<h2>Ablations</h2>", ABLATIONS]
    parts += [_figure(folder / "ablations" / f"{name}.png", text) for name, text in PANELS.items()]
    backbone = _figure(folder.parent / "pretrain.png", "The tiny CLIP on held-out pictures of its own world.")
    parts += ["<h2>Backbone</h2>", backbone]
    parts += [
        "<h2>Cost</h2>",
        "<p>Of the last run of each, on the machine it ran on.</p>",
        _table(costs(study.study)),
    ]
    return "".join(parts)


def _heading(study: params.Study, found: list[dict]) -> str:
    tasks = ", ".join(f"{t} ({n})" for t, n in zip(found[0]["tasks"], found[0]["classes"], strict=True))
    return (
        f"<h1>Continual learning for CLIP with MoE-Adapters: study {html.escape(study.study)}</h1>"
        f"<p>{len(found[0]['tasks'])} tasks (classes): {html.escape(tasks)}. {len(found)} runs side by side.</p>"
        "<p><b>Transfer</b>: accuracy on tasks not yet learned. <b>Average</b>: over all times and tasks. "
        "<b>Last</b>: after all tasks. All in percent. <b>Forgetting</b>: points lost since each task's best. "
        "Mean ± 95 % interval over seeds. <b>sample</b>: the selector decides for each picture; <b>batch</b>: once for "
        "many pictures of one task, as in the released code; <b>oracle</b>: the true task is given.</p>"
    )


def _learned(study: params.Study) -> str:
    paragraphs = [
        f"<h3>{html.escape(title)}</h3><p>{html.escape(text)}</p>"
        for title, text in findings(tables.read(study.study), plan.main_order(study))
    ]
    return f"<h2>What we learned</h2>{''.join(paragraphs)}" if paragraphs else ""


def _published(study: params.Study) -> str:
    """What was measured beside what others published, for the studies of which there is something."""
    places = [order for name, order in published.PLACES if name == study.study]
    found = tables.read(study.study)
    parts = []
    for order in places:
        parts.append(f"<h3>Order {html.escape(order)}</h3>{_table(published.beside(found, study.study, order))}")
        by_task = published.by_task(found, study.study, order)
        parts += [f"<h3>Order {html.escape(order)}, by data set</h3>{_table(by_task)}"] * bool(len(by_task))
    return f"<h2>Beside published numbers</h2>{PUBLISHED}{''.join(parts)}" if parts else ""


def _table(table: pd.DataFrame) -> str:
    return f"<div class=wide>{table.to_html(index=False, border=0, na_rep='')}</div>"


def _figure(path: Path, caption: str) -> str:
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f"<figure><img alt='{text}' src='data:image/png;base64,{data}'><figcaption>{text}</figcaption></figure>"


def costs(study: str, folder: Path = REPORTS) -> pd.DataFrame:
    """One line a run: seconds of training and evaluation, peak memory, from the cost files."""
    lines = []
    for path in sorted((folder / "cost" / study).glob("*.json")):
        cost = json.loads(path.read_text())
        spent = pd.DataFrame(cost["seconds"].values()).sum().round(0)
        lines.append({"run": path.stem, **{f"{k} (s)": int(v) for k, v in spent.items()}})
        lines[-1]["peak memory (MB)"] = max(cost["peak_memory_mb"].values())
    return pd.DataFrame(lines)


def compared(study: params.Study) -> list[dict]:
    """The results that are set side by side, in the order of the figures: those of the main order, no ablations."""
    found = [c for c in tables.read(study.study) if c["order"] == plan.main_order(study)]
    return [c for contents in by_run(found).values() for c in contents if tables.label(c) in NAMES]


def named_summary(found: list[dict]) -> pd.DataFrame:
    """The summary of some results, with the runs' names as people read them."""
    table = tables.summary(found)
    return table.assign(run=table["run"].map(lambda run: NAMES[run]))


def readme_table(study: params.Study) -> str:
    """The README's table of results, from the result files."""
    table = named_summary(compared(study))
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(readme: str, table: str, marks: tuple[str, str] = MARKS) -> str:
    """The README's text with a table between its two marks."""
    head, rest = readme.split(marks[0])
    return f"{head}{marks[0]}\n{table}\n{marks[1]}{rest.split(marks[1])[1]}"


def main(file: str, readme: bool) -> None:
    """Writes the report of a params file; with `readme` the tables of results in the READMEs instead."""
    study = params.load(file)
    if readme:
        texts = {path: with_table(path.read_text(), readme_table(study)) for path in READMES}
    else:
        folder = REPORTS if file == "params.yaml" else REPORTS / study.study
        texts = {folder / "index.html": page(study)}
    for target, text in texts.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        print(f"written: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    given = [a for a in sys.argv[1:] if a != "--readme"]
    main(given[0] if given else "params.yaml", "--readme" in sys.argv)

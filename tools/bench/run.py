"""How fast the mixture is: a training step at ViT-B/16 beside the plain way, bf16, the selector, streams, evaluation.

    python -m tools.bench.run    prints a table, writes reports/bench.json and the table in docs/speed.md; about
                                 10 minutes on 2 cores

Ratios of steps are plain over ours, both measured in turn: medians, with the least and the largest.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lib.files import write_json
from lib.selector import SelectorSettings
from lib.study import log
from lib.study.studies import REPORTS, ROOT
from tools.bench import evaluation, step
from tools.bench.cost import decision_ms
from tools.bench.meters import best, seconds
from tools.bench.stream import streams

REPEATS = {100: 3, 397: 2}  # by the number of classes
SLOW = 4  # a step in bf16 that takes more than so many times as long is taken only once
LEARNED = 100  # tasks that the selector decides among
PAGE, MARKS = ROOT / "docs" / "speed.md", ("<!-- bench: `make bench` writes this -->", "<!-- end of bench -->")


def bf16(bench: step.Bench, repeats: int) -> dict[str, Any]:
    """The time of our step in bf16 over its time in single precision, if the processor has such products."""
    fp32 = step.steps(bench)["ours"]
    changed = partial(fp32, bf16=True)
    slower = seconds(changed) / seconds(fp32)  # both warm up
    if slower > SLOW:
        return {"failed": f"a step takes {slower:.0f} times as long on this processor"}
    return step.spread([seconds(changed) / seconds(fp32) for _ in range(repeats)])


def selector(bench: step.Bench, learned: int) -> dict[str, Any]:
    """Milliseconds a picture of the image encoder and of a decision among so many learned tasks, and their ratio."""
    clip: Any = bench.model.clip
    settings = SelectorSettings("clip", 100, 0, 64, 0.01, 1e-4, "absolute", 1.0, 0.1, False, 128)
    with torch.no_grad():
        encoder = 1000 * best(lambda: clip.encode_image(bench.images), 3) / len(bench.images)
    decision = decision_ms(torch.randn(64, clip.visual.transformer.width), settings, learned)
    return {"tasks": learned, "encoder_ms": encoder, "selector_ms": decision, "share": decision / encoder}


def measure() -> dict[str, Any]:
    """All figures, as reports/bench.json holds them."""
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "steps": {}}
    for classes, repeats in REPEATS.items():
        print(f"measuring a step with {classes} classes", flush=True)
        measured = figures["steps"][str(classes)] = step.compared(step.prepared(classes), repeats)
        figures[f"step_ratio_c{classes}"] = measured["ratio"]["median"]
    bench = step.prepared(min(REPEATS))
    figures["options"] = {"bf16": bf16(bench, 3)}
    figures["selector"] = selector(bench, LEARNED)
    figures["selector_share_t100"] = round(figures["selector"]["share"], 4)
    figures["stream"] = streams()
    figures["evaluation"] = evaluation.evaluation(evaluation.AGAIN)
    figures["eval_flops_ratio_t11"] = figures["evaluation"]["ratio"]
    return figures | log.origin()


def table(figures: dict[str, Any]) -> str:
    """The figures but for the machine's, in lines."""
    steps = pd.json_normalize(list(figures["steps"].values())).set_axis([f"{c} classes" for c in figures["steps"]]).T
    others = pd.json_normalize({part: figures[part] for part in ("options", "selector", "stream", "evaluation")}).T
    return f"{steps.to_string(float_format='%.5g')}\n\n{others.to_string(header=False, float_format='%.4g')}"


def write_page(figures: dict[str, Any], page: Path = PAGE) -> None:
    """Sets the table between its marks in the page on speed."""
    head, rest = page.read_text().split(MARKS[0])
    page.write_text(f"{head}{MARKS[0]}\n```\n{table(figures)}\n```\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def main() -> None:
    """The command line."""
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that the weights are random, which is meant
    figures = measure()
    write_json(REPORTS / "bench.json", figures)
    write_page(figures)
    print(table(figures))


if __name__ == "__main__":
    main()

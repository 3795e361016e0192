"""How fast the mixture is: a training step at ViT-B/16 beside the plain way, and what else takes time in a study.

    python -m tools.bench.run    prints a table, writes reports/bench.json and the table in docs/speed.md; about
                                 10 minutes on 2 cores

Ratios are plain over ours, both measured in turn (tools/bench/step.py): medians, with the least and the largest.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.clip import preprocess
from lib.clip.loading import TINY_COLOURS
from lib.data.augmentation import random_crop
from lib.selector import AlexNetFeatures, SelectorSettings
from lib.study import provenance
from lib.study.paths import REPORTS, ROOT
from lib.study.results import write_json
from tools.bench import evaluation, step
from tools.bench.cost import decision_ms
from tools.bench.meters import best, in_new_processes
from tools.bench.step import PICTURES, Bench

REPEATS = {100: 3, 397: 2}  # by the number of classes
SLOW = 4  # bf16 products that take more than so many times as long are not measured in a step
ALEXNET = 256 * 13**2  # the width of AlexNet's features
LEARNED = 100  # tasks that the selector decides among
PAGE, MARKS = ROOT / "docs" / "speed.md", ("<!-- bench: `make bench` writes this -->", "<!-- end of bench -->")


def rate(dtype: torch.dtype = torch.float32, repeats: int = 10) -> float:
    """This machine's matrix products, in operations a second, at the shape of an MLP of the image tower."""
    tokens, width = PICTURES * 197, 768
    x, w = torch.randn(tokens, width, dtype=dtype), torch.randn(width, 4 * width, dtype=dtype)
    return 2 * tokens * width * 4 * width / best(lambda: x @ w, repeats)


def bf16(bench: Bench, repeats: int) -> dict[str, Any]:
    """The time of our step in bf16 over its time in single precision, if the processor has such products."""
    slower = rate() / rate(torch.bfloat16, 1)
    if slower > SLOW:  # a step would take minutes
        return {"failed": f"products in bf16 take {slower:.0f} times as long on this processor"}
    way = bench.ways()["ours"]
    bench.step(way, bf16=True)
    times = [[bench.step(way, changed)["step"] for changed in (True, False)] for _ in range(repeats)]
    return step.spread(pd.Series([changed / usual for changed, usual in times]))


@torch.no_grad()
def selector(bench: Bench, learned: int) -> dict[str, Any]:
    """Milliseconds a picture of the image encoder and of a decision among so many learned tasks, and their ratio.

    CLIP's features are a by-product of the encoder; those of AlexNet (the released code) are computed as well.
    """
    visual: Any = bench.model.clip.visual
    pictures, alexnet = bench.images, AlexNetFeatures(pretrained=False)
    settings = SelectorSettings("clip", 100, 0, 64, 0.01, 1e-4, "absolute", 1.0, 0.1, False, 128)
    encoder = 1000 * best(lambda: bench.model.clip.encode_image(pictures), 3) / len(pictures)
    features = 1000 * best(lambda: alexnet(pictures), 3) / len(pictures)
    narrow, wide = (decision_ms(torch.randn(64, w), settings, learned, 5) for w in (visual.transformer.width, ALEXNET))
    return {
        "tasks": learned,
        "encoder_ms": encoder,
        "selector_ms": narrow,
        "share": narrow / encoder,
        "alexnet": {"features_ms": features, "selector_ms": wide, "share": (features + wide) / encoder},
    }


def waiting(seconds: float) -> float:
    """The share of a step of so many seconds that its pictures take: read from uint8, normalised, cropped."""
    stored = torch.randint(0, 256, (64, 3, 224, 224), dtype=torch.uint8)
    rng = np.random.default_rng(0)

    def batch() -> Tensor:
        chosen = stored[rng.choice(64, PICTURES, replace=False)]
        return random_crop(preprocess(chosen, TINY_COLOURS, TINY_COLOURS), 0.9, rng)

    needed = best(batch, 5)
    return needed / (needed + seconds)


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """All figures, as reports/bench.json holds them."""
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "rate": rate(), "steps": {}}
    for classes, repeats in REPEATS.items():
        say(f"time and memory of a step with {classes} classes")
        [measured] = in_new_processes(step.measure, [(classes, repeats)])
        ours = measured["operations"]["ours"] / measured["seconds"]["ours"]["step"]
        figures["steps"][str(classes)] = measured | {"share_of_rate": round(ours / figures["rate"], 2)}
        figures[f"step_ratio_c{classes}"] = measured["ratio"]["median"]
    say("bf16, the selector, the input, evaluation")
    usual = min(REPEATS)
    bench = step.prepared(usual)
    figures["options"] = {"bf16": bf16(bench, REPEATS[usual])}
    figures["selector"] = selector(bench, LEARNED)
    figures["selector_share_t100"] = round(figures["selector"]["share"], 4)
    figures["waiting"] = round(waiting(figures["steps"][str(usual)]["seconds"]["ours"]["step"]), 4)
    mini = evaluation.asked_again()
    figures["evaluation"] = evaluation.evaluation(mini[1] if mini else 1.0)
    figures["evaluation_t8"] = {"passes_a_picture": round(mini[0], 2)} if mini else None
    figures["eval_flops_ratio_t11"] = figures["evaluation"]["ratio"]
    return figures | provenance.origin()


def table(figures: dict[str, Any]) -> str:
    """The figures in lines, for people."""
    steps = figures["steps"].items()
    rows = {
        f"{classes} classes, {way}": seconds | {"peak MB": f"{measured['peak_memory_mb'][way]:.0f}"}
        for classes, measured in steps
        for way, seconds in measured["seconds"].items()
    }
    lines = [f"{figures['threads']} threads, {figures['rate'] / 1e9:.0f} GFLOP/s of matrix products in fp32", ""]
    lines.append("seconds of a step at ViT-B/16, B = 8")
    lines.append(pd.DataFrame.from_dict(rows, orient="index").to_string(float_format="%.2f"))
    for classes, measured in steps:
        fewer = measured["operations"]["plain"] / measured["operations"]["ours"]
        less = f"{fewer:.1f} times fewer operations, at {100 * measured['share_of_rate']:.0f} % of that rate"
        lines.append(f"{classes} classes: plain / ours {_range(measured['ratio'])}; {less}")
    bf16 = figures["options"]["bf16"]
    lines.append(f"bf16: {bf16.get('failed') or f'{_range(bf16)} of the time in fp32'}")
    return "\n".join([*lines, "", *_rest(figures)])


def _rest(figures: dict[str, Any]) -> list[str]:
    e, s, a = figures["evaluation"], figures["selector"], figures["selector"]["alexnet"]
    passes, mini = e["passes_a_picture"], figures["evaluation_t8"]
    return [
        f"evaluation of {e['tasks']} tasks (counted): {passes['ours']} passes a test picture instead of "
        f"{passes['plain']}, {e['ratio']} times fewer operations, if {100 * e['asked_again']:.0f} % run again",
        f"evaluation of mini (measured): {mini['passes_a_picture']} passes a test picture in 8 tasks"
        if mini
        else "evaluation of mini: no results, so the worst case is counted",
        f"selector, {s['tasks']} tasks: {s['selector_ms']:.2f} ms a picture, {100 * s['share']:.1f} % of the encoder",
        f"selector on AlexNet: {a['features_ms']:.1f} ms for its features and {a['selector_ms']:.1f} ms to decide, "
        f"together {100 * a['share']:.0f} % of the encoder",
        f"a step waits for its pictures {100 * figures['waiting']:.1f} % of its time",
    ]


def _range(values: dict[str, float]) -> str:
    return f"{values['median']} ({values['least']} to {values['largest']})"


def write_page(figures: dict[str, Any], page: Path = PAGE) -> None:
    """Sets the table between its marks in the page on speed."""
    head, rest = page.read_text().split(MARKS[0])
    page.write_text(f"{head}{MARKS[0]}\n```\n{table(figures)}\n```\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def main() -> None:
    """The command line."""
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that the weights are random, which is meant
    began = time.monotonic()
    figures = measure(lambda what: print(f"{time.monotonic() - began:4.0f} s: {what}", flush=True))
    write_json(REPORTS / "bench.json", figures)
    write_page(figures)
    print(table(figures))


if __name__ == "__main__":
    main()

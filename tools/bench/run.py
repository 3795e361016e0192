"""How fast the mixture is: a training step at ViT-B/16 beside the plain way, and whatever else takes time in a study.

    python -m tools.bench.run            prints a table and writes reports/bench.json; about 10 minutes on 2 cores
    python -m tools.bench.run --compile  measures torch.compile as well, which takes it minutes to begin
    python -m tools.bench.run --batch B  prints the memory of one step of B pictures, and nothing else

Ratios are plain over ours, both measured in turn (tools/bench/step.py): medians with the least and the largest of the
repeats.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.clip.backbone import TINY_COLOURS, preprocess
from lib.data.frozen import AlexNetFeatures
from lib.selector.ddas import Selector
from lib.study import provenance
from lib.study.params import Selector as SelectorSettings
from lib.study.paths import REPORTS
from lib.study.results import write_json
from lib.study.train import random_crop
from tools.bench import operations as counting
from tools.bench import table as bench_table
from tools.bench.memory import most
from tools.bench.step import PICTURES, RECOMPUTE, USUAL, Bench, prepared, spread, steps, whole_loss, whole_step

REPEATS = {100: 3, 397: 2}  # by the number of classes
SLOW = 4  # times as long as in fp32: products that take longer are not measured in a step
ALEXNET = 256 * 13**2  # width of the features of AlexNet
LEARNED = 100  # tasks that the selector decides among
OPTIONS = {
    "bf16": replace(USUAL, precision="bf16"),
    "recompute": RECOMPUTE,
    "compile": replace(USUAL, compile=True),
}


def apart(classes: int) -> dict[str, Any]:
    """What `steps` finds in a process of its own, whose memory holds nothing else."""
    command = [sys.executable, "-m", "tools.bench.run", "--classes", str(classes)]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout)


def options(bench: Bench, repeats: int, names: list[str]) -> dict[str, Any]:
    """The time of our step with each of some options of params `compute`, over our time without."""
    way, found = bench.ways()["ours"], {}
    loss = whole_loss(bench, way)
    compiled = torch.compile(loss)
    for name in names:
        how = OPTIONS[name]
        taker = compiled if how.compile else loss
        slower = rate() / rate(torch.bfloat16, 1) if how.precision == "bf16" else 1.0
        if slower > SLOW:  # a processor without such products: a step would take minutes
            found[name] = {"failed": f"products in bf16 take {slower:.0f} times as long on this processor"}
            continue
        try:
            whole_step(taker, way, how)
        except Exception as error:  # no compiler, or no such kernels on this machine: said, not fatal
            found[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            continue
        times = [(whole_step(taker, way, how), whole_step(loss, way, USUAL)) for _ in range(repeats)]
        found[name] = spread(np.array([changed / usual for changed, usual in times]))
    return found


def rate(dtype: torch.dtype = torch.float32, repeats: int = 10) -> float:
    """This machine's matrix products, in operations a second, at the shape of an MLP of the image tower."""
    tokens, width = PICTURES * 197, 768
    x, w = torch.randn(tokens, width, dtype=dtype), torch.randn(width, 4 * width, dtype=dtype)
    return 2 * tokens * width * 4 * width / best(lambda: x @ w, repeats)


def best(work: Callable[[], object], repeats: int) -> float:
    """The least seconds of several, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


@torch.no_grad()
def selector(bench: Bench, learned: int) -> dict[str, Any]:
    """Milliseconds a picture of the image encoder, and of deciding among so many learned tasks; and their ratio.

    CLIP's features are a by-product of the encoder; AlexNet's, the released code's, are computed as well.
    """
    visual: Any = bench.model.clip.visual
    pictures, alexnet = bench.images, AlexNetFeatures(pretrained=False)
    encoder = best(lambda: bench.model.clip.encode_image(pictures), 3) / len(pictures)
    decision = deciding(visual.transformer.width, learned)
    features = best(lambda: alexnet(pictures), 3) / len(pictures)
    wide = deciding(ALEXNET, learned)
    return {
        "tasks": learned,
        "encoder_ms": 1000 * encoder,
        "selector_ms": 1000 * decision,
        "share": decision / encoder,
        "alexnet": {
            "features_ms": 1000 * features,
            "selector_ms": 1000 * wide,
            "share": (features + wide) / encoder,
        },
    }


def deciding(width: int, learned: int) -> float:
    """Seconds a picture that a selector of so many learned tasks takes to decide, on features of that width."""
    settings = SelectorSettings("clip", 100, 0, 64, 0.01, 1e-4, "absolute", 1.0, 0.1, False, 128)
    chooser, features = Selector(width, settings), torch.randn(64, width)
    for number in range(learned):
        chooser.learn(features, torch.zeros(len(features), dtype=torch.long), [number])
    return best(lambda: chooser.decide(features), 5) / len(features)


def waiting(step: float) -> float:
    """The share of a step that its pictures take: read from uint8, normalised, cropped."""
    stored = torch.randint(0, 256, (64, 3, 224, 224), dtype=torch.uint8)
    rng = np.random.default_rng(0)

    def picked() -> Tensor:
        chosen = stored[rng.choice(64, PICTURES, replace=False)]
        return random_crop(preprocess(chosen, TINY_COLOURS, TINY_COLOURS), 0.9, rng)

    needed = best(picked, 5)
    return needed / (needed + step)


def measured(names: list[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, as reports/bench.json keeps it."""
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "rate": rate(), "steps": {}}
    for classes in REPEATS:
        say(f"time and memory of a step with {classes} classes")
        found["steps"][str(classes)] = told = apart(classes)
        ours = told["operations"]["ours"] / told["seconds"]["ours"]["step"]
        told["share_of_rate"] = round(ours / found["rate"], 2)
        found[f"step_ratio_c{classes}"] = told["ratio"]["median"]
    say("options, the selector, the input")
    usual = min(REPEATS)
    bench = prepared(usual)
    found["options"] = options(bench, REPEATS[usual], names)
    found["selector"] = selector(bench, LEARNED)
    found["selector_share_t100"] = round(found["selector"]["share"], 4)
    found["waiting"] = round(waiting(found["steps"][str(usual)]["seconds"]["ours"]["step"]), 4)
    mini = counting.asked_again()
    found["evaluation"] = counting.evaluation(mini[1] if mini else 1.0)
    found["evaluation_t8"] = {"passes_a_picture": round(mini[0], 2)} if mini else None
    found["eval_flops_ratio_t11"] = found["evaluation"]["ratio"]
    found["evaluation_batches"] = counting.pooling()
    return found | provenance.origin()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.run", description="Measure a training step.")
    parser.add_argument("--batch", type=int, metavar="B", help="print the memory of one step of B pictures alone")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    parser.add_argument("--classes", type=int, choices=REPEATS, help="print what a step takes with so many alone")
    asked = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns of the random weights that are meant
    if asked.classes:
        print(json.dumps(steps(prepared(asked.classes), REPEATS[asked.classes])))
        return
    if asked.batch:
        bench = prepared(min(REPEATS), asked.batch)
        print(f"{most(partial(bench.step, bench.ways()['ours'])):.0f} MB with {min(REPEATS)} classes")
        return
    began, names = time.monotonic(), [name for name in OPTIONS if name != "compile" or asked.compile]

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s: {what}", flush=True)

    found = measured(names, say)
    write_json(REPORTS / "bench.json", found)
    bench_table.write(found)
    print(bench_table.table(found))


if __name__ == "__main__":
    main()

"""How fast the mixture is: a training step at ViT-B/16 beside the plain way (lib/plain.py), both measured in turn.

    python -m lib.bench            prints a table and writes reports/bench.json; about 10 minutes on 2 cores
    python -m lib.bench --compile  measures torch.compile as well, which takes it minutes to begin
    python -m lib.bench --batch B  prints the memory of one step of B pictures, and nothing else

Weights are random: they do not change the time. Ratios are plain over ours, medians with the least and the largest of
the repeats. Nothing is downloaded.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lib import bench_table, compute, counting, plain, provenance
from lib.clip import TINY_COLOURS, preprocess
from lib.memory import most
from lib.methods.base import cross_entropy
from lib.moe import Encoded, MoECLIP, MoEConfig
from lib.params import Compute
from lib.params import Selector as SelectorSettings
from lib.paths import REPORTS
from lib.results import write_json
from lib.selector import Selector
from lib.train import random_crop

MODEL, PICTURES = "ViT-B-16-quickgelu", 8
REPEATS = {100: 3, 397: 2}  # by the number of classes
PARTS = ("image", "text", "optimiser")
SLOW = 4  # times as long as in fp32: products that take longer are not measured in a step
LEARNED = 100  # tasks that the selector decides among
USUAL = Compute(threads=0)
OPTIONS = {
    "bf16": replace(USUAL, precision="bf16"),
    "recompute": replace(USUAL, recompute=True),
    "compile": replace(USUAL, compile=True),
}


@dataclass(frozen=True)
class Way:
    """A way to take a training step: its two encoders and its optimiser."""

    image: Callable[[], Encoded]
    text: Callable[[], Encoded]
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Bench:
    """What all measurements share: a mixture with one task, pictures (B, 3, H, W), labels (B,), prompts (C, 77)."""

    model: MoECLIP
    images: Tensor
    labels: Tensor
    tokens: Tensor

    def ways(self) -> dict[str, Way]:
        """The plain way and ours."""
        parameters = [p for _, p in self.model.trainable_parameters(0)]
        prompts = self.model.prepare(self.tokens)
        loop = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, foreach=False, fused=False)
        return {
            "plain": Way(
                lambda: plain.encode_image(self.model, self.images, 0),
                lambda: plain.encode_text(self.model, self.tokens, 0),
                loop,
            ),
            "ours": Way(
                lambda: self.model.encode_image(self.images, 0, whole=False),
                lambda: self.model.encode_text(prompts, 0),
                torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True),
            ),
        }

    def step(self, way: Way) -> dict[str, float]:
        """Takes a step and returns the seconds of its parts; each tower's are forward and backward."""
        model, clock = self.model, [time.perf_counter()]
        image = way.image()
        clock.append(time.perf_counter())
        text = way.text()
        clock.append(time.perf_counter())
        shown, named = (each.features.detach().requires_grad_() for each in (image, text))
        cross_entropy(shown, named, self.labels, model.clip.logit_scale, 0.2).backward()
        torch.autograd.backward(image.features, shown.grad)
        clock.append(time.perf_counter())
        torch.autograd.backward(text.features, named.grad)
        clock.append(time.perf_counter())
        model.add_counts(0, image.routings, text.routings)
        model.mask_frozen_gradients()
        way.optimizer.step()
        way.optimizer.zero_grad()
        clock.append(time.perf_counter())
        image_on, text_on, image_back, text_back, rest = np.diff(clock)
        return {"image": image_on + image_back, "text": text_on + text_back, "optimiser": rest}


def prepared(classes: int, pictures: int = PICTURES) -> Bench:
    """A mixture of 22 experts, 2 of them chosen, around ViT-B/16 at random weights."""
    torch.manual_seed(0)
    clip: Any = open_clip.create_model(MODEL, pretrained=None)
    model = MoECLIP(clip, MoEConfig(experts=22, top_k=2))
    model.add_task()
    names = counting.prompts(classes)
    tokens = open_clip.get_tokenizer(MODEL)(names)
    size = clip.visual.image_size[0]
    images = torch.randn(pictures, 3, size, size)
    return Bench(model.train(), images, torch.arange(pictures) % classes, tokens)


def steps(bench: Bench, repeats: int) -> dict[str, Any]:
    """Seconds of the parts of a step in both ways, taken in turn, and their ratios; operations, and memory in MB."""
    ways, operations, peaks = bench.ways(), {}, {}
    found: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for name, way in ways.items():  # the first step of each warms up, and is counted
        with FlopCounterMode(display=False) as counter:
            peaks[name] = most(partial(bench.step, way))
        operations[name] = counter.get_total_flops()
    fresh = bench.ways()["ours"]  # whose optimiser holds nothing yet, either
    peaks["recompute"] = most(lambda: _loss_step(_loss(bench, fresh), fresh, OPTIONS["recompute"]))
    for _ in range(repeats):
        for name, way in ways.items():
            found[name].append(bench.step(way))
    totals = {name: np.array([sum(parts.values()) for parts in taken]) for name, taken in found.items()}
    ratios = totals["plain"] / totals["ours"]
    return {
        "seconds": {
            name: {part: round(float(np.median([t[part] for t in taken])), 3) for part in PARTS}
            | {"step": round(float(np.median(totals[name])), 3)}
            for name, taken in found.items()
        },
        "operations": operations,
        "ratio": spread(ratios),
        "peak_memory_mb": {name: round(peak) for name, peak in peaks.items()},
    }


def apart(classes: int) -> dict[str, Any]:
    """What `steps` finds in a process of its own, whose memory holds nothing else."""
    command = [sys.executable, "-m", "lib.bench", "--classes", str(classes)]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout)


def spread(values: np.ndarray) -> dict[str, float]:
    """Median, least and largest."""
    return {
        name: round(float(of(values)), 2)
        for name, of in (("median", np.median), ("least", np.min), ("largest", np.max))
    }


def options(bench: Bench, repeats: int, names: list[str]) -> dict[str, Any]:
    """The time of our step with each of some options of params `compute`, over our time without."""
    way, found = bench.ways()["ours"], {}
    loss = _loss(bench, way)
    compiled = torch.compile(loss)
    for name in names:
        how = OPTIONS[name]
        taker = compiled if how.compile else loss
        slower = rate() / rate(torch.bfloat16, 1) if how.precision == "bf16" else 1.0
        if slower > SLOW:  # a processor without such products: a step would take minutes
            found[name] = {"failed": f"products in bf16 take {slower:.0f} times as long on this processor"}
            continue
        try:
            _loss_step(taker, way, how)
        except Exception as error:  # no compiler, or no such kernels on this machine: said, not fatal
            found[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            continue
        times = [(_loss_step(taker, way, how), _loss_step(loss, way, USUAL)) for _ in range(repeats)]
        found[name] = spread(np.array([changed / usual for changed, usual in times]))
    return found


def _loss(bench: Bench, way: Way) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        image, text = way.image(), way.text()
        return cross_entropy(image.features, text.features, bench.labels, bench.model.clip.logit_scale, 0.2)

    return loss


def _loss_step(loss: Callable[[], Tensor], way: Way, how: Compute) -> float:
    began = time.perf_counter()
    with compute.training(how, torch.device("cpu")):
        value = loss()
    value.backward()
    way.optimizer.step()
    way.optimizer.zero_grad()
    return time.perf_counter() - began


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
def selector(bench: Bench, learned: int) -> dict[str, float]:
    """Milliseconds a picture of the image encoder, and of deciding among so many learned tasks; and their ratio."""
    settings = SelectorSettings("clip", 100, 0, 64, 0.01, 1e-4, "absolute", 1.0, 0.1, False, 128)
    visual: Any = bench.model.clip.visual
    chooser = Selector(visual.transformer.width, settings)
    features = torch.randn(64, chooser.width)
    for number in range(learned):
        chooser.learn(features, torch.zeros(len(features), dtype=torch.long), [number])
    pictures = bench.images
    encoder = best(lambda: bench.model.clip.encode_image(pictures), 3) / len(pictures)
    decision = best(lambda: chooser.decide(features), 5) / len(features)
    share = decision / encoder
    return {
        "tasks": learned,
        "encoder_ms": 1000 * encoder,
        "selector_ms": 1000 * decision,
        "share": share,
    }


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
    parser = argparse.ArgumentParser(prog="python -m lib.bench", description="Measure a training step.")
    parser.add_argument(
        "--batch", type=int, metavar="B", help="print the memory of one step of B pictures alone"
    )
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    parser.add_argument(
        "--classes", type=int, choices=REPEATS, help="print what a step takes with so many alone"
    )
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

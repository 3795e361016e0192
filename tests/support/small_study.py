"""A small study for the tests: three tasks of striped pictures, a tiny random CLIP, a place of its own to run in."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from lib.clip import tiny as tiny_clip
from lib.clip.backbone import Backbone, fingerprint, preprocess
from lib.data import frozen, tasks
from lib.data.frozen import Features
from lib.data.tasks import Pictures, ReferenceSet, Task
from lib.methods import method_class
from lib.methods.base import Context, Lesson, Method
from lib.selector import ClsToken, extract
from lib.settings import build
from lib.study import code_digests, params
from lib.study.opened import REFERENCE, OpenStudy
from lib.study.train import learn_task

CONFIG = {"image_size": 32, "width": 32, "layers": 2, "heads": 2, "embed": 16, "context": 16, "text_layers": 2}
NAMES = ["red", "green", "blue"]
CLASSES = ["across", "plain_sheet", "upright"]  # in the order of the alphabet, as folders are read
COLOURS = [(200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60)]  # the last is no task's
TEMPLATES = ["a photo of {}.", "{}"]
RAW: dict[str, Any] = yaml.safe_load("""
study: tiny
backbone: {model: backbone, pretrained: ""}
tasks: {source: folder, root: pictures, seed: 0, train_per_class: 0, test_per_class: 0}
reference: {source: folder, root: others, pictures: 8, seed: 0}
compute: {threads: 1}
train: {steps: 4, batch: 8, warmup: 1, smoothing: 0.2, crop: 0.9}
selector: {features: clip, code: 4, steps: 5, batch: 8, lr: 0.01, weight_decay: 0.0001, rule: quantile, threshold: 0.95,
  shrinkage: 0.1, reference: false, batch_decision: 4}
methods:
  zero_shot: {}
  joint: {lr: 0.001}
  finetune: {lr: 0.001}
  finetune_single: {lr: 0.001}
  lwf: {lr: 0.001, weight: 1.0, temperature: 2.0}
  lwf_vr: {lr: 0.001, weight: 1.0, temperature: 2.0, sentences: 4, task_names: true}
  wise_ft: {lr: 0.001, alpha: 0.5}
  zscl: {lr: 0.001, weight: 1.0, temperature: 2.0, reference_batch: 4, average_every: 2, task_names: true}
  mas: {lr: 0.001, weight: 1.0, pictures: 6}
  icarl: {lr: 0.001, exemplars: 20, replay: 6, weight: 1.0, temperature: 2.0}
  expert_gate: {lr: 0.001}
  lora: {lr: 0.01, rank: 2, alpha: 4.0}
  rail_primal: {width: 64, ridge: 0.1, zero_shot_share: 0.1}
  rail_dual: {gamma: 0.1, ridge: 0.1, zero_shot_share: 0.1}
  linear_probe: {inverse_penalty: 1.0}
  analytic_head: {ridge: 0.1}
  adapter: &adapter {lr: 0.01, bottleneck: 4, dropout: 0.1, image_blocks: all, text_blocks: all}
  adapter_per_task: *adapter
  vote: {<<: *adapter, voters: 4}
  moe_adapters: {lr: 0.01, bottleneck: 4, dropout: 0.1, image_blocks: all, text_blocks: all, experts: 4, top_k: 2,
    router: task, noise: true, balance: 0.0, text_router_token: start, freeze: 1, freeze_rule: most_used,
    selector: autoencoder}
  moe_confidence: {lr: 0.01, bottleneck: 4, dropout: 0.0, image_blocks: all, text_blocks: all, sharpness: 0.01,
    quantile: 0.9, divisor: 0.9}
  moram: {lr: 0.01, rank: 3, chosen: 4, tau: 0.01, delta: 0.2}
  beyond: {lr: 0.01, bottleneck: 4, dropout: 0.1, image_blocks: all, text_blocks: all, experts: 4, top_k: 2,
    router: task, noise: true, balance: 0.0, text_router_token: start, freeze: 1, freeze_rule: most_used,
    selector: none, width: 64, ridge: 0.01, share: 0.5, slope: 0.3, names: 1.0, doubt: 2.0,
    prior: 2.5, soft: true, level: 0.01, penalty: 100.0, grow: true}
""")
RAW["tasks"] |= {"templates": TEMPLATES, "orders": {"I": NAMES}}
MOE = RAW["methods"]["moe_adapters"]
RUNS = ("zero_shot", "finetune", "finetune_single", "moe_adapters")
RAW["runs"] = {name: {"seeds": [0, 1], "set": {}} for name in RUNS}


def study(changes: dict[str, Any] | None = None) -> params.Study:
    """The small study; `changes` sets values by dotted path."""
    raw = copy.deepcopy(RAW)
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place = raw
        for key in parents:
            place = place[key]
        place[last] = value
    return build(params.Study, raw, "the small study")


@cache
def backbone() -> Backbone:
    """A tiny CLIP at random weights, centred so that its answers differ; a method must leave it as it is."""
    model = tiny_clip.build(CONFIG, seed=0).eval()
    pictures = torch.cat([task(number).train.images for number in range(3)]).float() / 127.5 - 1
    with torch.no_grad():
        visual: Any = model.visual
        visual.ln_post.bias -= visual._pool(visual.transformer(visual._embeds(pictures)))[0].mean(dim=0)
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["context"])
    half = (0.5, 0.5, 0.5)
    return Backbone(model, tokenizer, CONFIG["image_size"], half, half, "tiny", fingerprint(model))


def picture(number: int, label: int, rng: np.random.Generator, size: int = 32) -> np.ndarray:
    """A sheet (size, size, 3) uint8 in the task's colour, striped as the class says."""
    sheet = np.full((size, size, 3), COLOURS[number] + rng.uniform(-50, 50, 3))
    if label == 0:
        sheet[::4] += 50
    if label == 2:
        sheet[:, ::4] += 50
    return np.clip(sheet + rng.normal(0, 8, sheet.shape), 0, 255).astype(np.uint8)


def task(number: int, train: int = 6, test: int = 4) -> Task:
    """Task `number` as it is in memory."""
    rng = np.random.default_rng(number)
    splits = []
    for count in (train, test):
        labels = np.repeat(range(3), count)
        drawn = np.stack([picture(number, label, rng) for label in labels])
        images = torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous()
        splits.append(Pictures(images, torch.from_numpy(labels)))
    return Task(NAMES[number], [name.replace("_", " ") for name in CLASSES], TEMPLATES, *splits)


@cache
def sequence() -> tuple[list[Task], list[Features]]:
    """All three tasks, and what the tiny CLIP says of them."""
    made = [task(number) for number in range(3)]
    return made, [frozen.compute(backbone(), each, "clip") for each in made]


def lessons() -> list[Lesson]:
    """The tasks as they are taught, with seed 0."""
    return [Lesson(made, i, features, [0, i]) for i, (made, features) in enumerate(zip(*sequence(), strict=True))]


@cache
def others() -> ReferenceSet:
    """Pictures of none of the tasks: yellow ones, with captions, of which the first five name a class of the tasks."""
    rng = np.random.default_rng(9)
    drawn = np.stack([picture(3, number % 3, rng) for number in range(8)])
    names = [*[CLASSES[number % 3].replace("_", " ") for number in range(5)], "crossed", "dotted", "empty"]
    tokens = backbone().tokenizer([f"a yellow sheet, {name}" for name in names])
    return ReferenceSet(torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous(), tokens, torch.arange(8) < 5)


def method(name: str, changes: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A method that has learned nothing; `changes` are the study's, `settings` its own."""
    torch.manual_seed(0)
    return method_class(name)(context(changes), study(changes).methods[name] | settings)


def teach(pupil: Method, *numbers: int) -> Any:
    """The method, after these tasks had their turn."""
    for number in numbers:
        lesson = pupil.lesson(lessons(), number)
        if lesson:
            learn_task(pupil, lesson, pupil.context.train)
    return pupil


@cache
def learned(name: str, count: int = 2) -> Any:
    """A method after some tasks, shared by the tests that only ask."""
    return teach(method(name), *range(count))


def shown(number: int) -> tuple[Tensor, Tensor]:
    """A task's training pictures (18, 3, 32, 32) as a method's loss takes them, and their labels (18,)."""
    train, half = sequence()[0][number].train, (0.5, 0.5, 0.5)
    return preprocess(train.images, half, half), train.labels


def write_pictures(root: Path, train: int = 6, test: int = 4) -> None:
    """All three tasks as folders of pictures: <root>/<task>/{train,test}/<class>/*.png."""
    for number, name in enumerate(NAMES):
        rng = np.random.default_rng(number)
        for split, count in (("train", train), ("test", test)):
            for label, each in enumerate(CLASSES):
                folder = root / name / split / each
                folder.mkdir(parents=True)
                for index in range(count):
                    Image.fromarray(picture(number, label, rng)).save(folder / f"{index}.png")


code_of_method = cache(code_digests.of_method)  # while the tests run, no code changes: read it once


def context(changes: dict[str, Any] | None = None) -> Context:
    """What a method of the small study is given."""
    made = study(changes)
    module = ClsToken(backbone())
    return Context(backbone(), made.train, made.selector, others, lambda: extract(module, others().images, backbone()))


def open_at(home: Path, made: params.Study | None = None) -> OpenStudy:
    """The small study, or a changed one, opened below `home` with the tiny CLIP."""
    opened = OpenStudy(made or study(), home)
    opened.backbone = backbone()
    return opened


def prepare(home: Path) -> None:
    """Tasks, reference set and features of the small study, as the stages before learning write them."""
    opened = open_at(home)
    for made, features in zip(*sequence(), strict=True):
        tasks.save(made, opened.task_file(made.name))
        frozen.save(features, opened.feature_file(made.name))
    save_file(vars(others()), opened.task_file(REFERENCE))

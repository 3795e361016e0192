"""The time of a picture in a stream that mixes tasks, by the method `beyond`, beside the frozen CLIP alone.

A picture passes the frozen tower; the statistics judge it among all learned classes; then it passes the tower once
more, by the router of its own task. In the layout of one pass, experts are in the later half of the blocks and the
statistics judge the token that reaches them: then a picture passes the tower once. Random weights at ViT-B/16: only
the shapes matter. Ten classes a task; their text features are kept. How many tasks there are should not matter.
"""

from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.methods.statistics import Looks, Ridge
from lib.moe import Blocks, MoECLIP, MoEConfig
from tools.bench.meters import best

MODEL, CLASSES, WIDTH = "ViT-B-16-quickgelu", 10, 2000
LEARNED = (1, 10, 100, 1000)  # tasks


def statistics(tasks: int, width: int) -> tuple[Ridge, Looks]:
    """A regression and Gaussians of so many tasks, with random numbers."""
    ridge, looks = Ridge(WIDTH, 1.0), Looks(0.1, 0.01)
    ridge.weights = torch.randn(WIDTH, tasks * CLASSES, dtype=torch.float64)
    looks.means = list(torch.randn(tasks, CLASSES, width, dtype=torch.float64))
    looks.within = looks.between = torch.eye(width, dtype=torch.float64)
    looks.freedom = torch.ones(2, dtype=torch.float64)
    return ridge, looks


class Stream:
    """A mixture around CLIP's image tower with so many routers, and the statistics of as many tasks."""

    def __init__(self, model: MoECLIP, tasks: int, one_pass: bool) -> None:
        self.one_pass = one_pass
        while model.num_tasks < tasks:
            model.add_task()
        visual: Any = model.clip.visual
        self.model, self.tasks, self.visual = model.eval(), tasks, visual
        self.ridge, self.looks = statistics(tasks, visual.transformer.width)
        self.names = torch.randn(tasks, CLASSES, visual.output_dim)

    def route(self, tokens: Tensor) -> Tensor:
        """The tasks (B,) of pictures, by the statistics of their class tokens (B, D)."""
        scores, _ = self.ridge.scores(tokens), self.looks.judge(tokens)
        return scores.softmax(dim=1).unflatten(1, (self.tasks, CLASSES)).sum(dim=2).argmax(dim=1)

    @torch.no_grad()
    def answer(self, images: Tensor) -> Tensor:
        """Answers (B,) among the classes of each picture's task."""
        if self.one_pass:
            features, tasks = self.model.encode_in_one_pass(images, self.route)
        else:
            tasks = self.route(self.visual._pool(self.visual.transformer(self.visual._embeds(images)))[0])
            features = self.model.encode_image(images, tasks, whole=False).features
        own = self.names[tasks] @ F.normalize(features, dim=1)[..., None]  # (B, classes, 1)
        return own[..., 0].argmax(dim=1)


def streams(pictures: int = 16, repeats: int = 3) -> dict[str, Any]:
    """By the number of tasks, milliseconds a picture, and how many times the frozen CLIP's that is; in both layouts."""
    clip: Any = open_clip.create_model(MODEL)
    images, depth = torch.randn(pictures, 3, 224, 224), len(clip.visual.transformer.resblocks)
    with torch.no_grad():
        alone = 1000 * best(lambda: clip.encode_image(images), repeats) / pictures
    figures: dict[str, Any] = {"clip_ms": round(alone, 1)}
    layouts: dict[str, Blocks] = {"": "all", "one_pass_": list(range(depth // 2, depth))}
    for layout, blocks in layouts.items():
        model = MoECLIP(clip, MoEConfig(noise=False, text_blocks="none", image_blocks=blocks))
        for tasks in LEARNED:
            stream = Stream(model, tasks, bool(layout))
            ours = 1000 * best(lambda s=stream: s.answer(images), repeats) / pictures
            figures |= {f"{layout}ms_t{tasks}": round(ours, 1), f"{layout}ratio_t{tasks}": round(ours / alone, 3)}
        figures[f"{layout}growth"] = round(figures[f"{layout}ms_t1000"] / figures[f"{layout}ms_t10"], 3)
    return figures

"""What another selector would be worth, without training anything again.

Every test picture is answered once by every router and by CLIP. A selector only picks among these answers.
"""

import numpy as np
import torch
from torch import Tensor

from lib.methods.base import Lesson
from lib.methods.moe_adapters import MoEAdapters
from lib.selector.ddas import CLIP, DDAS


def answers_of_all(method: MoEAdapters, lessons: list[Lesson]) -> list[Tensor]:
    """For each task whether each answer is right (N, T + 1), by every router and, in the last column, by CLIP."""
    right = []
    for lesson in lessons:
        count = len(lesson.task.test)
        routes = [torch.full((count,), route) for route in [*range(len(lessons)), CLIP]]
        classes = torch.stack(method.answer(lesson.task, lesson.features, routes), dim=1)  # (N, T + 1)
        right.append(classes == lesson.task.test.labels[:, None])
    return right


def last_of(routes: list[Tensor], right: list[Tensor]) -> float:
    """Last in percent of the decisions routes (N,) of each task, from `answers_of_all`."""
    pairs = zip(routes, right, strict=True)
    scores = [table.gather(1, route.remainder(table.shape[1])[:, None]).float().mean() for route, table in pairs]
    return 100 * float(np.mean(scores))


@torch.no_grad()
def to_clip_when_unlearned(selector: DDAS, features: list[Tensor]) -> float:
    """Percent of a task's pictures that go to CLIP if that task had not been learned; the mean over tasks."""
    shares = []
    for number, own in enumerate(features):
        others = [i for i in range(len(features)) if i != number]
        least, winner = selector.errors(own)[:, others].min(dim=1)
        stranger = least > selector.thresholds[others][winner]
        if selector.reference is not None:
            stranger |= least > selector.reference(own)
        shares.append(stranger.float().mean())
    return 100 * float(torch.stack(shares).mean())


def worth(selector: DDAS, features: list[Tensor], right: list[Tensor]) -> dict[str, float]:
    """Percent of pictures sent to their own task's router, percent sent to CLIP while their task is new, and Last."""
    routes = [selector.decide(part).sample for part in features]
    own = [100 * float((route == number).float().mean()) for number, route in enumerate(routes)]
    return {
        "learned task: sent to its own router": float(np.mean(own)),
        "task not learned yet: sent to CLIP": to_clip_when_unlearned(selector, features),
        "Last": last_of(routes, right),
    }


def grouped(features: list[Tensor], selector: DDAS, size: int, mixed: bool, seed: int = 0) -> list[Tensor]:
    """Routes (N,) of each task's pictures where every `size` pictures share one decision, by their mean errors.

    Not mixed: the pictures of a task in a row, as the released code tests. Mixed: pictures of all tasks, shuffled.
    """
    errors = [selector.errors(part) for part in features]
    if not mixed:
        return [_shared(part, selector, size) for part in errors]
    together = torch.cat(errors)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(together)))
    routes = torch.empty(len(order), dtype=torch.int64).scatter(0, order, _shared(together[order], selector, size))
    return list(routes.split([len(part) for part in errors]))


def _shared(errors: Tensor, selector: DDAS, size: int) -> Tensor:
    means = torch.stack([part.mean(dim=0) for part in errors.split(size)])
    return selector.route(means).repeat_interleave(size)[: len(errors)]

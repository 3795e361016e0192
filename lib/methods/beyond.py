"""Beyond the paper: MoE-Adapters whose statistics say, picture by picture, what is known and what is not.

Training is that of MoE-Adapters. In place of DDAS there are sums in closed form (statistics.py). A picture passes the
frozen CLIP and one router:

    1. Ridge regression gives the chances of the learned classes: q(y), and with them the task t whose router is asked.
    2. The answer of a learned task is the mean of q(y | t) and the router's p_t(y).
    3. m, the chance that the picture is of a learned task, has the log odds
         slope * log(density of a known class / of an unknown class in a known look)
         + log(frozen CLIP's belief in a learned name / in a stranger's) - doubt * entropy(p_t) + prior.
       A stranger's name was not learned, or was learned in another task: the more names have come twice, the likelier.
    4. P(y) = m * the learned answer + (1 - m) * CLIP's answer for a stranger. If the look is known, CLIP's image
       features are first moved as that look's pictures would have had to be.

The method is told the candidate names and which of them it has learned, as RAIL and MoE-Confidence are; no task, no
flag and no threshold for a task. Among a task's own names (own labels) that gives the task away: m is 0 or 1 there.
Decision `stream` also takes the pictures before as evidence (stream.py).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.clip import zero_shot_classifier
from lib.data.frozen import Features, class_features
from lib.data.tasks import Task
from lib.methods.adapter import RoutedTower
from lib.methods.base import Context, Lesson, Predictions, joined, under
from lib.methods.moe_adapters import MoEAdapters
from lib.methods.scoring import encode_images, learned_places, logits, others
from lib.methods.statistics import Judged, Looks, Ridge, moving, of_strangers
from lib.methods.stream import in_stream
from lib.selector import CLIP
from lib.settings import Positive, PositiveShare, Rate, Share, Weight

BATCH = 128  # pictures of one forward
Places = dict[int, Tensor]  # by learned task, where its classes (C,) stand among the candidates


class Posterior(NamedTuple):
    """Of each picture the chances of its answers, the learned task whose router was asked (CLIP: none), and m.

    The answers, K: every class of every learned task among the candidates, and every candidate that a stranger may be.
    """

    chances: Tensor  # (N, K)
    owners: Tensor  # the task (K,) of each answer, CLIP for those of a stranger
    at: Tensor  # where its name (K,) stands among the candidates
    asked: Tensor  # (N,)
    learned: Tensor  # m (N,)

    @property
    def routes(self) -> Tensor:
        """The task whose router was asked (N,), or CLIP if the picture is more likely of no learned task."""
        return torch.where(self.learned >= 0.5, self.asked, CLIP)

    def scores(self, candidates: int, stream: bool = False) -> Tensor:
        """The chances (N, C) of the candidates; stream: each picture given those before it."""
        chances = in_stream(self.chances, self.owners) if stream else self.chances
        return torch.zeros(len(chances), candidates).to(chances).index_add_(1, self.at, chances)


class Beyond(MoEAdapters):
    """The mixture with statistics. Decisions: `sample`, told nothing, `stream`, told the pictures before, and `oracle`.

    The stream is the one in which a task's test pictures come, so all of one task; the oracle as everywhere.
    """

    @dataclass(frozen=True)
    class Settings(MoEAdapters.Settings):
        """Besides those of the mixture, whose selector is none.

        width, ridge: of the regression. share: what it has of a learned answer; 0 = the router answers alone, 1 = no
        router is asked. slope, names, doubt, prior: of the log odds that a picture is of a learned task. soft:
        False takes the likelier side alone. level: the share of a look's pictures that it may lose. penalty: of moving
        features; 0 = they are not moved. grow: whether a block that runs out of free experts gets new ones.
        """

        width: Positive
        ridge: Rate
        share: Share
        slope: Weight
        names: Weight
        doubt: Weight
        prior: float
        soft: bool
        level: PositiveShare
        penalty: Weight
        grow: bool

    decisions = ("sample", "stream", "oracle")
    routes_by_names = True
    saved = (*MoEAdapters.saved, "moves")

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings | {"selector": "none"})
        self.decisions = Beyond.decisions
        s = self.settings
        self.ridge, self.looks = Ridge(s.width, s.ridge), Looks(context.selector.shrinkage, s.level)
        self.moves: list[Tensor] = []  # (F, F) of each task
        self.texts: dict[tuple, Tensor] = {}  # class features (C, F), not part of the state

    def end_task(self, lesson: Lesson) -> None:
        """Activate-freeze as in the mixture; then the statistics learn the task's frozen features."""
        super().end_task(lesson)
        features, labels, names = lesson.features, lesson.task.train.labels, class_features(self.backbone, lesson.task)
        self.ridge.learn(features.train, labels, lesson.seed[0])
        self.looks.learn(features.train, labels)
        if self.settings.penalty:
            self.moves.append(moving(features.image_train, names[labels], self.settings.penalty))
        self.texts = {}

    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The likeliest names. If several tasks' names are candidates, routes: the router asked, or CLIP if m < 1/2."""
        learned = self.model.num_tasks
        places, _ = learned_places(task, number, learned)
        alone = self.posterior(task, features, places)
        told = self.posterior(task, features, places, number if number < learned else CLIP)
        scores = {
            "sample": alone.scores(len(task.classes)),
            "stream": alone.scores(len(task.classes), stream=True),
            "oracle": told.scores(len(task.classes)),
        }
        routes = {"sample": alone.routes, "oracle": told.routes} if task.places else {}
        return Predictions({decision: each.argmax(dim=1) for decision, each in scores.items()}, routes)

    @torch.no_grad()
    def posterior(self, task: Task, features: Features, places: Places, told: int | None = None) -> Posterior:
        """P(y) of a task's test pictures over its candidates. told: the task, CLIP if not learned, or None."""
        count = len(task.test)
        learned, prior = ~others(places, len(task.classes)), of_strangers(places, len(task.classes))
        if told == CLIP and not prior.isfinite().any():
            prior = torch.zeros_like(prior)
        possible = prior.isfinite()
        zero_shot, judged = self.logits_of(task, features.image_test), self.looks.judge(features.test)  # (N, C) logits
        mine = places if told is None else {t: at for t, at in places.items() if t == told}
        known, asked = torch.zeros(count, dtype=torch.float64), torch.full((count,), CLIP)
        answers, owners = torch.zeros(count, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.long)
        if mine:
            answers, owners, asked, entropy = self.learned(task, features, mine)
            known = torch.ones(count, dtype=torch.float64)
            if told is None and possible.any():
                known = self.chance_of_learned(judged, zero_shot, learned, prior, entropy)
        rest = self.moved(task, features, zero_shot, judged) if self.settings.penalty and possible.any() else zero_shot
        rest = (rest + prior).softmax(dim=1)[:, possible]
        chances = torch.cat([known[:, None] * answers, (1 - known)[:, None] * rest], dim=1)
        owners = F.pad(owners, (0, int(possible.sum())), value=CLIP)
        at = torch.cat([*(mine[t] for t in sorted(mine)), possible.nonzero().flatten()])
        return Posterior(chances, owners, at, asked, known)

    def learned(self, task: Task, features: Features, places: Places) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """If the class was learned: P(y) (N, K) of the classes of these tasks, task by task, and their tasks (K,).

        Then the task whose router is asked (N,), and the entropy of p_t (N,).
        """
        s = self.settings
        columns = torch.arange(len(self.looks.means)).repeat_interleave(
            torch.tensor([len(m) for m in self.looks.means])
        )
        mine = torch.isin(columns, torch.tensor(list(places)))  # the columns of the regression that are candidates
        scores, owners = self.ridge.scores(features.test)[:, mine], columns[mine]
        joint = (self.ridge.among_all * scores).softmax(dim=1)  # q(y)
        shares = torch.zeros(len(joint), len(self.looks.means)).double().index_add_(1, owners, joint)  # (N, T)
        asked, entropy = shares.argmax(dim=1), torch.zeros(len(joint), dtype=torch.float64)
        if s.share < 1:
            image = self.routed_features(task, asked)
            for t in asked.unique().tolist():
                sent, own = (asked == t).nonzero(), (owners == t).nonzero().flatten()
                answers = self.among_own(task, t, places[t], image[sent[:, 0]])
                entropy[sent[:, 0]] = -torch.special.xlogy(answers, answers).sum(dim=1)
                regression = (self.ridge.among_own[t] * scores[sent, own]).softmax(dim=1)
                joint[sent, own] = shares[sent, t] * ((1 - s.share) * answers + s.share * regression)
        if not s.soft:
            joint = F.one_hot(joint.argmax(dim=1), joint.shape[1]).double()
        return joint, owners, asked, entropy

    def routed_features(self, task: Task, routers: Tensor) -> Tensor:
        """Image features (N, F) of a task's test pictures, each by its own router (N,).

        One forward for a batch that mixes routers; an evaluation goes router by router, to compute each picture once.
        """
        if self.encoded is None:
            parts = zip(task.test.images.split(BATCH), routers.split(BATCH), strict=True)
            passes = (self.model.encode_image(self.backbone.pixels(x), r, whole=False) for x, r in parts)
            return torch.cat([each.features for each in passes])
        visual: Any = self.backbone.model.visual
        rows = torch.zeros(len(routers), visual.output_dim, device=self.backbone.device)
        for router in routers.unique().tolist():
            sent, tower = (routers == router).nonzero().flatten(), RoutedTower(self.model, "image", router)
            rows[sent] = self.encode_once(router, task, sent, lambda x, t=tower: encode_images(t, self.backbone, x))
        return rows

    def among_own(self, task: Task, router: int, at: Tensor, image: Tensor) -> Tensor:
        """p_t (n, C): a router's answers among its own classes, at `at` in the candidates, to features (n, F)."""
        names, key = [task.classes[i] for i in at.tolist()], ("router", router)
        if key not in self.texts:
            text = RoutedTower(self.model, "text", router)
            self.texts[key] = zero_shot_classifier(text, self.backbone.tokenizer, names, task.templates)
        return logits(image, self.texts[key], self.backbone.model.logit_scale).cpu().double().softmax(dim=1)

    def logits_of(self, task: Task, image: Tensor) -> Tensor:
        """The frozen CLIP's logits (N, C) over a task's candidates, of image features (N, F)."""
        return logits(image.double(), self.candidates(task), self.backbone.model.logit_scale.cpu())

    def candidates(self, task: Task) -> Tensor:
        """The frozen CLIP's class features (C, F) of the candidates."""
        key = ("clip", *task.classes)
        if key not in self.texts:
            self.texts[key] = class_features(self.backbone, task).double()
        return self.texts[key]

    def moved(self, task: Task, features: Features, zero_shot: Tensor, judged: Judged) -> Tensor:
        """Those logits, of moved features where a task has had the picture's look."""
        image, moved = features.image_test.double(), zero_shot.clone()
        look = torch.where(judged.strange, CLIP, judged.unknown.argmax(dim=1))
        for t, move in enumerate(self.moves):
            x = image[look == t]
            moved[look == t] = self.logits_of(task, x + x @ move)
        return moved

    def chance_of_learned(
        self, judged: Judged, zero_shot: Tensor, learned: Tensor, prior: Tensor, entropy: Tensor
    ) -> Tensor:
        """m (N,): the chance that a picture is of a learned task. learned (C,): which candidates are its classes."""
        s = self.settings
        density = judged.known.amax(dim=1) - judged.unknown.amax(dim=1)
        a_learned = torch.logsumexp(zero_shot[:, learned], dim=1) - learned.sum().log()
        names = a_learned - torch.logsumexp(zero_shot + prior, dim=1)
        odds = s.slope * density + s.names * names - s.doubt * entropy + s.prior
        return odds.sigmoid() if s.soft else (odds > 0).double()

    def state(self) -> dict[str, Tensor]:
        parts = joined("ridge.", self.ridge.state()) | joined("looks.", self.looks.state())
        return super().state() | parts

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self.ridge.restore(under("ridge.", state))
        self.looks.restore(under("looks.", state))
        self.texts = {}

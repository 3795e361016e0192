"""Zero-shot: the frozen CLIP answers, nothing is learned (Radford et al. 2021)."""

from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Method, Predictions


class ZeroShot(Method):
    """Every row of its accuracy matrix is the same."""

    def settled(self, task: int, learned: int) -> bool:
        """Nothing ever changes."""
        return True

    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The answers that were computed once per study."""
        return Predictions({"sample": features.zero_shot}, {})

"""The order in which stages run: each after those that it waits for, the longest chain first.

A stage that fails stops only what depends on it.
"""

import sys
import time
from graphlib import TopologicalSorter

from lib.study.log import minutes
from tools.stages.graph import Graph
from tools.stages.slots import Slots, short


class Schedule:
    """Stages and what has become of them so far. weights: what each stage counts in the time left."""

    def __init__(self, slots: Slots, graph: Graph, weights: dict[str, float]) -> None:
        self.slots, self.graph, self.weights = slots, graph, weights
        self.left: set[str] = set()
        self.demanded: set[str] = set()  # up to date, but what they make is needed and missing
        self.ran: list[str] = []
        self.unchanged: set[str] = set()  # when their turn came
        self.failed: list[str] = []
        self.skipped: list[str] = []
        self.began = time.monotonic()

    def run(self, waiting: dict[str, set[str]], outdated: set[str]) -> None:
        """Runs what has to run among `outdated`; returns when nothing more can run.

        waiting: every stage with those that it waits for.
        """
        urgency = longest_ways(waiting, self.weights)
        self.left |= outdated
        while True:
            blocked = self.left.union(self.failed)
            ready = [s for s in self.left - set(self.slots.running) if not waiting[s] & blocked]
            if ready and self.slots.free:
                self._take(max(ready, key=lambda stage: (urgency[stage], stage)))
            elif self.slots.running:
                stage, succeeded = self.slots.wait()
                self.left.remove(stage)
                (self.ran if succeeded else self.failed).append(stage)
            else:
                break
        self.skipped += sorted(self.left)
        self.left.clear()

    def _take(self, stage: str) -> None:
        if not (self.slots.force or stage in self.demanded or self.graph.has_to_run(stage)):
            self.left.remove(stage)
            self.unchanged.add(stage)
            return
        if makers := self.graph.makers_of_missing_inputs(stage).difference(self.ran, self.failed):
            self.demanded |= makers
            self.left |= makers
            self.unchanged -= makers
            return
        done = len(self.ran) + len(self.unchanged) + len(self.failed)
        number = done + len(self.slots.running) + 1
        print(f"[{number}/{done + len(self.left)}] {stage}{self._time_left()}", flush=True)
        self.slots.start(stage)

    def _time_left(self) -> str:
        done, left = (sum(self.weights.get(s, 1.0) for s in stages) for stages in (self.ran, self.left))
        seconds = time.monotonic() - self.began
        return f" (about {minutes(seconds / done * left)} left)" if done and seconds >= 20 else ""

    def summary(self) -> int:
        """Prints what became of the stages; returns the exit status."""
        took = minutes(time.monotonic() - self.began)
        counts = f"{len(self.ran)} stages ran, {len(self.failed)} failed, {len(self.skipped)} skipped"
        print(f"\n{'failed' if self.failed else 'done'} after {took}: {counts}", flush=True)
        for stage in self.failed:
            notebook = f"; its notebook is {self.slots.copies[stage]}" if stage in self.slots.copies else ""
            print(f"failed: {stage} (its message is above{notebook})", file=sys.stderr)
        if self.skipped:
            few = ", ".join(map(short, self.skipped[:5]))
            more = f" and {len(self.skipped) - 5} more" if len(self.skipped) > 5 else ""
            print(f"not run, because they wait for a stage that failed: {few}{more}", file=sys.stderr)
        return 1 if self.failed else 0


def longest_ways(waiting: dict[str, set[str]], weights: dict[str, float]) -> dict[str, float]:
    """The weight of the longest chain of stages from each one to the end: long chains start first."""
    way = dict.fromkeys(waiting, 0.0)
    for stage in reversed(list(TopologicalSorter(waiting).static_order())):
        way[stage] += weights.get(stage, 1.0)
        for other in waiting[stage]:
            way[other] = max(way[other], way[stage])
    return way

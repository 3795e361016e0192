"""The sizes and switches of a mixture (paper, Sec. 3.3): what the paper says, and what the released code does."""

from dataclasses import dataclass
from typing import Literal, get_args

Blocks = Literal["all", "first", "last", "none"] | list[int]
RouterOf = Literal["task", "shared"]
RouterToken = Literal["start", "end"]
FreezeRule = Literal["most_used", "most_weighted", "all_used", "all_but_fresh"]


@dataclass(frozen=True)
class MoEConfig:
    """A mixture in chosen blocks of both towers. The defaults are the paper's. Bad values raise ValueError.

    experts, top_k: E and K. With one expert there is no router: it is a plain adapter.
    bottleneck: R, the width of an expert's hidden layer. dropout: after its ReLU, as in the released code.
    noise: whether the gates are noisy in training. The paper has no noise in its equation; the released code has it.
    text_router_token: which token of a prompt the router reads. The released code reads "start". The text tower is
        causal, so that token is the same for all prompts, and they all go to the same experts. "end" has read them.
    image_blocks, text_blocks: "all" (paper), only the "first" or "last" block, "none", or a list of block numbers.
    router: one for each "task" (paper), or one "shared" by all tasks, which goes on learning.
    freeze: how many experts each block freezes after a task: 2 in the released code, whatever K is. 0: none.
    freeze_rule: which experts. "most_used": those chosen most often (paper and released code). "most_weighted": those
        with the largest sum of gates. "all_used": all that were chosen at least once, however many. "all_but_fresh":
        all but the `freeze` experts chosen least often in all tasks so far.
    grow: whether a block gets new experts before a task if it has fewer than `freeze` that are not frozen. The paper's
        pool does not grow: with 22 experts, two frozen for each task, it is full after 11 tasks.
    """

    experts: int = 22
    top_k: int = 2
    bottleneck: int = 64
    dropout: float = 0.1
    noise: bool = True
    text_router_token: RouterToken = "start"
    image_blocks: Blocks = "all"
    text_blocks: Blocks = "all"
    router: RouterOf = "task"
    freeze: int = 2
    freeze_rule: FreezeRule = "most_used"
    grow: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.experts:
            raise ValueError(f"top_k is {self.top_k}; choose 1 to {self.experts}, the number of experts")
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck is {self.bottleneck}; choose 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; choose 0 or more and less than 1")
        if not 0 <= self.freeze <= self.experts:
            raise ValueError(f"freeze is {self.freeze}; choose 0 to {self.experts}, the number of experts")
        for name, choices in (("text_router_token", RouterToken), ("router", RouterOf), ("freeze_rule", FreezeRule)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose {' or '.join(get_args(choices))}")
        for name, blocks in (("image_blocks", self.image_blocks), ("text_blocks", self.text_blocks)):
            if blocks not in ("all", "first", "last", "none") and not isinstance(blocks, list):
                raise ValueError(f"{name} is {blocks!r}; choose all, first, last, none or a list of block numbers")
        if self.grow and (self.experts == 1 or self.router == "shared"):
            raise ValueError("grow is true; a mixture grows with two experts or more, and a router for each task")
        if self.image_blocks in ("none", []) and self.text_blocks in ("none", []):
            raise ValueError("image_blocks and text_blocks are both none; leave a block to one of the towers")

    def blocks(self, tower: str, depth: int) -> list[int]:
        """The numbers of the blocks with a mixture in the "image" or "text" tower of `depth` blocks."""
        chosen: Blocks = self.image_blocks if tower == "image" else self.text_blocks
        named = {"all": list(range(depth)), "first": [0], "last": [depth - 1], "none": []}
        numbers = named[chosen] if isinstance(chosen, str) else sorted(set(chosen))
        outside = [number for number in numbers if not 0 <= number < depth]
        if outside:
            raise ValueError(f"{tower}_blocks has {outside[0]}; the tower's blocks are 0 to {depth - 1}")
        return numbers

    def router_of(self, task: int) -> int:
        """The number of the router that serves a task."""
        return 0 if self.router == "shared" else task

"""The numbers and switches of a mixture (paper, Sec. 3.2 and 3.3)."""

from dataclasses import dataclass
from typing import Literal, get_args

from lib.moe.router import check_top_k

Blocks = Literal["all", "first", "last", "none"] | list[int]
RouterOf = Literal["task", "shared"]
FreezeRule = Literal["most_used", "most_weighted", "all_used", "all_but_fresh"]


@dataclass(frozen=True)
class MoEConfig:
    """A mixture in chosen blocks of both towers; the defaults are the paper's. Bad values raise ValueError.

    image_blocks, text_blocks: "all", only the "first" or "last" block, "none", or block numbers.
    text_router_token: "start" (released code) is one and the same for all prompts; "end" has read the prompt.
    router: one for each "task" (paper), or one "shared" by all, which goes on learning.
    freeze: experts frozen after a task in each block (2 in the released code, whatever K is); 0 = never.
    freeze_rule: which ones: "most_used", the most often chosen (paper); "most_weighted", those with the
    largest sum of gates; "all_used", all that were ever chosen, whatever the count; "all_but_fresh", all
    except the freeze least often chosen so far.
    One expert needs no router: it is a plain adapter, without mixture.
    """

    experts: int = 22
    top_k: int = 2
    bottleneck: int = 64
    dropout: float = 0.1
    noise: bool = True
    text_router_token: Literal["start", "end"] = "start"
    image_blocks: Blocks = "all"
    text_blocks: Blocks = "all"
    router: RouterOf = "task"
    freeze: int = 2
    freeze_rule: FreezeRule = "most_used"

    def __post_init__(self) -> None:
        check_top_k(self.experts, self.top_k)
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck is {self.bottleneck}; it is a width, 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it is a share, 0 or more and below 1")
        for name, value, allowed in (
            ("text_router_token", self.text_router_token, ("start", "end")),
            ("router", self.router, get_args(RouterOf)),
            ("freeze_rule", self.freeze_rule, get_args(FreezeRule)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; choose {' or '.join(allowed)}")
        if not 0 <= self.freeze <= self.experts:
            raise ValueError(f"freeze is {self.freeze}; choose 0 to {self.experts}, the number of experts")
        for name, blocks in (("image_blocks", self.image_blocks), ("text_blocks", self.text_blocks)):
            if blocks not in ("all", "first", "last", "none") and not isinstance(blocks, list):
                raise ValueError(f"{name} is {blocks!r}; choose all, first, last, none or a list of block numbers")
        if self.image_blocks in ("none", []) and self.text_blocks in ("none", []):
            raise ValueError("image_blocks and text_blocks are both none; leave a block to one of the towers")

"""How each run looks: its name, colour, marker and line, the same in every figure and table."""

from typing import Any, NamedTuple

# Okabe and Ito's colours, one for each family, ordered so that neighbours also differ in lightness
BLACK, GREY, ORANGE, AMBER, SKY, BLUE, GREEN, PURPLE = (
    "#000000", "#7f7f7f", "#D55E00", "#E69F00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7"
)  # fmt: skip


class Look(NamedTuple):
    """Marker and line repeat what the colour says, for readers who see no colours."""

    name: str
    colour: str
    marker: str
    line: Any


# The order of every figure and table.
LOOK = {
    "joint": Look("joint training, all tasks at once", BLACK, "*", ":"),
    "finetune_single": Look("fine-tuning, one model a task (told the task)", BLACK, "^", "--"),
    "zero_shot": Look("zero-shot CLIP", GREY, "s", ":"),
    "finetune": Look("continual fine-tuning", ORANGE, "v", "-."),
    "lwf": Look("LwF", ORANGE, "<", "--"),
    "lwf_vr": Look("LwF-VR", ORANGE, ">", "--"),
    "icarl": Look("iCaRL", ORANGE, "p", "--"),
    "wise_ft": Look("WiSE-FT", ORANGE, "d", "--"),
    "zscl": Look("ZSCL", ORANGE, "h", "--"),
    "zscl+no_averaging": Look("ZSCL, no weight averaging", ORANGE, "H", ":"),
    "mas": Look("MAS", ORANGE, "8", "--"),
    "expert_gate": Look("Expert Gate", AMBER, "X", "--"),
    "adapter": Look("one adapter, no mixture", AMBER, "P", (0, (5, 1))),
    "lora": Look("LoRA", AMBER, "X", ":"),
    "rail_primal": Look("RAIL, primal", GREEN, "D", "-"),
    "rail_dual": Look("RAIL, dual", GREEN, "D", ":"),
    "moe_adapters+no_freeze": Look("MoE-Adapters, no freezing", SKY, "D", "--"),
    "moe_adapters+gaussian": Look("MoE-Adapters, Gaussian selector", SKY, "o", ":"),
    "moe_adapters+steps_300": Look("MoE-Adapters, 300 steps", SKY, "s", "-."),
    "moe_adapters": Look("MoE-Adapters (the method)", BLUE, "o", "-"),
}


def look(run: str) -> Look:
    """How a run looks; one that LOOK does not list has its own name, in purple."""
    return LOOK.get(run, Look(run, PURPLE, "o", "--"))


def name(run: str) -> str:
    """A run's name as people read it."""
    return look(run).name


def in_order(runs: list[str]) -> list[str]:
    """Runs in the order of LOOK; those that it does not list follow by name."""
    place = {run: number for number, run in enumerate(LOOK)}
    return sorted(runs, key=lambda run: (place.get(run, len(place)), run))

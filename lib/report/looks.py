"""How a run is named and looks, in every figure and table."""

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
    "finetune_single+steps_800": Look("one model a task, twice the steps", BLACK, "v", ":"),
    "zero_shot": Look("zero-shot CLIP", GREY, "s", ":"),
    "finetune": Look("continual fine-tuning", ORANGE, "v", "-."),
    "finetune+pictures_1": Look("continual fine-tuning, other pictures", ORANGE, "1", ":"),
    "lwf": Look("LwF", ORANGE, "<", "--"),
    "lwf_vr": Look("LwF-VR", ORANGE, ">", "--"),
    "icarl": Look("iCaRL", ORANGE, "p", "--"),
    "wise_ft": Look("WiSE-FT", ORANGE, "d", "--"),
    "zscl": Look("ZSCL", ORANGE, "h", "--"),
    "zscl+other_words": Look("ZSCL, captions without the tasks' names", ORANGE, "H", ":"),
    "zscl+no_averaging": Look("ZSCL, no weight averaging", ORANGE, "H", "-."),
    "mas": Look("MAS", ORANGE, "8", "--"),
    "expert_gate": Look("Expert Gate", AMBER, "X", "--"),
    "adapter": Look("one adapter, no mixture", AMBER, "P", (0, (5, 1))),
    "adapter_per_task": Look("one adapter a task, DDAS", AMBER, "^", "-"),
    "vote": Look("one adapter a task, DDAS and ConDU's vote", AMBER, "<", "--"),
    "moe_confidence": Look("MoE-Confidence", PURPLE, "s", "--"),
    "moram": Look("MoRAM", PURPLE, "X", "-."),
    "lora": Look("LoRA", AMBER, "X", ":"),
    "linear_probe": Look("linear probe a task, DDAS", GREEN, "s", "--"),
    "analytic_head": Look("analytic head a task, DDAS", GREEN, "v", "-."),
    "rail_primal": Look("RAIL, primal", GREEN, "D", "-"),
    "rail_dual": Look("RAIL, dual", GREEN, "D", ":"),
    "moe_adapters+no_freeze": Look("MoE-Adapters, no freezing", SKY, "D", "--"),
    "moe_adapters+gaussian": Look("MoE-Adapters, Gaussian selector", SKY, "o", ":"),
    "moe_adapters+pictures_1": Look("MoE-Adapters, other pictures", BLUE, "D", ":"),
    "moe_adapters+steps_800": Look("MoE-Adapters, twice the steps", BLUE, "s", ":"),
    "moe_adapters": Look("MoE-Adapters (the method)", BLUE, "o", "-"),
    "beyond": Look("beyond: MoE-Adapters and statistics", BLACK, "P", "-"),
    "beyond+no_growth": Look("beyond, no new experts", BLACK, "x", ":"),
    "beyond+no_regression": Look("beyond: the router answers alone", PURPLE, "o", "--"),
    "beyond+no_router": Look("beyond: the regression answers alone", PURPLE, "o", "--"),
    "beyond+no_names": Look("beyond, names have no say in what is known", PURPLE, "o", "--"),
    "beyond+no_doubt": Look("beyond, the router's doubt has no say", PURPLE, "o", "--"),
    "beyond+no_moving": Look("beyond, features are not moved", PURPLE, "o", "--"),
    "beyond+hard": Look("beyond, the likelier side answers alone", PURPLE, "o", "--"),
}


def look(run: str) -> Look:
    """How a run looks; one that LOOK does not list has its own name, in purple."""
    return LOOK.get(run, Look(run, PURPLE, "o", "--"))


def name(run: str) -> str:
    """A run's name as people read it."""
    return look(run).name


def in_order(runs: list[str]) -> list[str]:
    """Runs in the order of LOOK; those that it does not list follow by name."""
    return sorted(runs, key=lambda run: ([*LOOK].index(run) if run in LOOK else len(LOOK), run))

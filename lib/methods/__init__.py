"""The methods of the comparison by name. A method is one class in a module of this folder, and one line here.

A class is imported when it is asked for, so that a stage depends on the modules of its own method alone.
"""

from importlib import import_module
from typing import Any

from lib.settings import ParamsError

METHODS = {
    "zero_shot": "base.ZeroShot",
    "joint": "finetune.Joint",
    "finetune_single": "finetune.FineTuneSingle",
    "finetune": "finetune.FineTune",
    "lwf": "distillation.LwF",
    "lwf_vr": "distillation.LwFVR",
    "wise_ft": "constrained.WiSEFT",
    "zscl": "distillation.ZSCL",
    "mas": "constrained.MAS",
    "icarl": "icarl.ICaRL",
    "expert_gate": "expert_gate.ExpertGate",
    "lora": "constrained.LoRA",
    "rail_primal": "rail.RAILPrimal",
    "rail_dual": "rail.RAILDual",
    "linear_probe": "heads.LinearProbe",
    "analytic_head": "heads.AnalyticHead",
    "adapter": "adapter.SingleAdapter",
    "adapter_per_task": "adapter.AdapterPerTask",
    "moe_adapters": "moe_adapters.MoEAdapters",
    "vote": "vote.Vote",
    "moe_confidence": "confidence.MoEConfidence",
    "moram": "moram.MoRAM",
    "beyond": "beyond.Beyond",
}


def method_class(name: str) -> Any:
    """The class of a method, a subclass of base.Method. Raises ParamsError for a name that is not in METHODS."""
    if name not in METHODS:
        raise ParamsError(f"there is no method {name!r}; there are: {', '.join(METHODS)}")
    module, _, cls = METHODS[name].partition(".")
    return getattr(import_module(f"lib.methods.{module}"), cls)

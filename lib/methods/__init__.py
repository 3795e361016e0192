"""The methods of the comparison, by name. A method is one class and one line here."""

from lib.methods.base import Method
from lib.methods.finetune import FineTune, FineTuneSingle
from lib.methods.moe_adapters import Adapter, MoEAdapters
from lib.methods.zero_shot import ZeroShot

METHODS: dict[str, type[Method]] = {
    "zero_shot": ZeroShot,
    "finetune": FineTune,
    "finetune_single": FineTuneSingle,
    "adapter": Adapter,
    "moe_adapters": MoEAdapters,
}

__all__ = ["METHODS", "Method"]

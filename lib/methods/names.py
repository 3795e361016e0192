"""The methods of the comparison by name: one line each, module of lib.methods and class."""

METHODS = {
    "zero_shot": "zero_shot.ZeroShot",
    "joint": "finetune.Joint",
    "finetune_single": "finetune.FineTuneSingle",
    "finetune": "finetune.FineTune",
    "adapter": "moe_adapters.Adapter",
    "moe_adapters": "moe_adapters.MoEAdapters",
}

"""The methods of the comparison by name: one line each, module of lib.methods and class."""

METHODS = {
    "zero_shot": "zero_shot.ZeroShot",
    "joint": "finetune.Joint",
    "finetune_single": "finetune.FineTuneSingle",
    "finetune": "finetune.FineTune",
    "lwf": "lwf.LwF",
    "lwf_vr": "lwf.LwFVR",
    "wise_ft": "wise_ft.WiSEFT",
    "zscl": "zscl.ZSCL",
    "mas": "mas.MAS",
    "icarl": "icarl.ICaRL",
    "expert_gate": "expert_gate.ExpertGate",
    "lora": "lora.LoRA",
    "rail_primal": "rail.RAILPrimal",
    "rail_dual": "rail.RAILDual",
    "adapter": "moe_adapters.Adapter",
    "moe_adapters": "moe_adapters.MoEAdapters",
}

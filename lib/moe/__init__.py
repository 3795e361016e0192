"""MoE-Adapters: experts beside the MLPs of a frozen CLIP, and a router for each task."""

from lib.moe.config import Blocks, FreezeRule, MoEConfig, RouterOf
from lib.moe.experts import Experts
from lib.moe.mixture import Encoded, Mixture
from lib.moe.model import MoECLIP, Prompts
from lib.moe.router import Router, Routing, balance_loss

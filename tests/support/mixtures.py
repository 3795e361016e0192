"""What tests of the mixture share: random weights, a training loop, and copies to compare with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe import MoECLIP


@torch.no_grad()
def stir(model: MoECLIP) -> None:
    """Random experts and routers, as after much training."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if not name.startswith("clip."):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def copies(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors as they are now."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def loss_of(model: MoECLIP, images: Tensor, tokens: Tensor, task: int) -> Tensor:
    """The cross entropy of a training forward, which is counted."""
    image, text = model.encode_image(images, task), model.encode_text(tokens, task)
    model.add_counts(task, image.routings, text.routings)
    cosine = F.normalize(image.features, dim=-1) @ F.normalize(text.features, dim=-1).T
    return F.cross_entropy(10 * cosine, torch.arange(len(images)))


def learn(model: MoECLIP, images: Tensor, tokens: Tensor, task: int, steps: int = 3) -> None:
    """Trains a task as a training loop does."""
    torch.manual_seed(task)
    optimizer = torch.optim.AdamW([p for _, p in model.trainable_parameters(task)], lr=1e-2, weight_decay=0.0)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, images, tokens, task).backward()
        model.mask_frozen_gradients()
        optimizer.step()
    model.eval()

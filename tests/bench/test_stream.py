"""The measured stream: each picture by its own task's router, as if alone."""

import open_clip
import torch

from lib.moe import MoECLIP, MoEConfig
from tests.support.mixtures import stir
from tools.bench.stream import Stream


@torch.no_grad()
def test_a_picture_is_answered_in_a_mixed_batch_as_alone(tiny: open_clip.CLIP, images: torch.Tensor) -> None:
    model = MoECLIP(tiny, MoEConfig(experts=4, bottleneck=8, noise=False, text_blocks="none"))
    stream = Stream(model, 3)
    stir(model)
    torch.manual_seed(0)
    together = stream.answer(images)
    assert model.num_tasks == 3
    assert together.tolist() == [int(stream.answer(image[None])) for image in images]

"""The measured stream: each picture by its own task's router, as if alone."""

from typing import Any

import open_clip
import pytest
import torch

from lib.moe import MoECLIP, MoEConfig
from tests.support.mixtures import stir
from tools.bench.stream import Stream


@pytest.mark.parametrize(("one_pass", "blocks"), [(False, "all"), (True, [1])])
@torch.no_grad()
def test_a_picture_is_answered_in_a_mixed_batch_as_alone(
    tiny: open_clip.CLIP, images: torch.Tensor, one_pass: bool, blocks: Any
) -> None:
    model = MoECLIP(tiny, MoEConfig(experts=4, bottleneck=8, noise=False, text_blocks="none", image_blocks=blocks))
    stream = Stream(model, 3, one_pass)
    stir(model)
    torch.manual_seed(0)
    together = stream.answer(images)
    assert model.num_tasks == 3
    assert together.tolist() == [int(stream.answer(image[None])) for image in images]

"""What several tests share: a tiny random CLIP of two blocks a tower, its inputs, and a mixture around it."""

from collections.abc import Callable, Iterator

import matplotlib
import open_clip
import pytest
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from lib.moe import MoECLIP, MoEConfig
from tests.support.mixtures import stir

START, END = 126, 127  # tokens of the tiny vocabulary; 0 pads


def tiny_clip() -> open_clip.CLIP:
    """OpenAI's layout: 32 pixels in patches of 8, context 20, both towers 64 wide, joint space 32."""
    vision = open_clip.CLIPVisionCfg(layers=2, width=64, head_width=64, patch_size=8, image_size=32)
    text = open_clip.CLIPTextCfg(context_length=20, vocab_size=128, width=64, heads=2, layers=2)
    return open_clip.CLIP(32, vision, text, quick_gelu=True).eval()


@pytest.fixture
def own_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder study has two tasks, though nobody has put pictures there."""
    monkeypatch.setattr("lib.data.folders.task_names", lambda home: ["hats", "shoes"])


@pytest.fixture
def no_window() -> Iterator[None]:
    """Figures are drawn without a window, and closed after the test."""
    matplotlib.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def make_tiny() -> Callable[[], open_clip.CLIP]:
    """Makes the tiny CLIP, at whatever weights torch draws."""
    return tiny_clip


@pytest.fixture
def tiny() -> open_clip.CLIP:
    """The tiny CLIP with random weights, the same in every test."""
    torch.manual_seed(0)
    return tiny_clip()


@pytest.fixture
def images() -> Tensor:
    """Eight random images (8, 3, 32, 32)."""
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokens() -> Tensor:
    """Ten prompts (10, 20) of four to nine tokens."""
    words = torch.randint(1, START, (10, 20), generator=torch.Generator().manual_seed(2))
    for row, length in enumerate([4, 5, 6, 7, 8, 9, 4, 5, 6, 7]):
        words[row, 0], words[row, length - 1], words[row, length:] = START, END, 0
    return words


@pytest.fixture
def mixture(tiny: open_clip.CLIP) -> Callable[..., MoECLIP]:
    """Makes a mixture of 6 experts with two tasks; stirred, because new ones are zero."""

    def make(stirred: bool = True, tasks: int = 2, **changes: object) -> MoECLIP:
        config = {"experts": 6, "top_k": 2, "bottleneck": 8, "dropout": 0.0} | changes
        model = MoECLIP(tiny, MoEConfig(**config))  # type: ignore[arg-type]
        for _ in range(tasks):
            model.add_task()
        if stirred:
            stir(model)
        return model.eval()

    return make

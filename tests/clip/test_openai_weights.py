"""OpenAI's own form of the weights, at full size and random: the file path gives what open_clip's loader gives."""

from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.openai import load_openai_model

from lib.clip import load_clip

NAME = "ViT-B-16-quickgelu"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict as OpenAI's, in half precision, with the three sizes beside the weights."""
    torch.manual_seed(0)
    state = {name: tensor.half() for name, tensor in open_clip.create_model(NAME).state_dict().items()}
    sizes = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    made = tmp_path_factory.mktemp("openai") / "ViT-B-16.pt"
    torch.save(state | {name: torch.tensor(size) for name, size in sizes.items()}, made)
    return made


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:FutureWarning")  # open_clip tries it first
@torch.no_grad()
def test_a_file_of_openais_gives_the_features_of_open_clips_own_loader(file: Path) -> None:
    found, expected = load_clip(NAME, str(file)), load_openai_model(str(file), device="cpu")
    images, tokens = torch.randn(2, 3, 224, 224), found.tokenizer(["a photo of a cat.", "two dogs"])
    assert (found.image_size, found.mean) == (224, open_clip.OPENAI_DATASET_MEAN)
    for ours, theirs in (
        (found.model.encode_image(images), expected.encode_image(images)),
        (found.model.encode_text(tokens), expected.encode_text(tokens)),
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_other_activation_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match=r"'ViT-B-16.pt' were trained with QuickGELU; use model ViT-B-16-quickgelu"):
        load_clip("ViT-B-16", str(file))

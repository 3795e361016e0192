"""Loading a CLIP by name and from folders, its errors, and the frozen model's class features."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from lib import clip as clips
from lib.clip import tiny as tiny_clip
from lib.clip.backbone import fingerprint

CONFIG = {
    "image_size": 32,
    "width": 32,
    "layers": 1,
    "heads": 2,
    "embed": 16,
    "context": 12,
    "text_layers": 1,
}
TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 128, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiny models under names of their own, with and without QuickGELU; two tags, the first wants it."""
    configs: Any = open_clip.factory._MODEL_CONFIGS
    tags: Any = open_clip.pretrained._PRETRAINED
    for name, quick in (("tiny-quickgelu", True), ("tiny", False)):
        monkeypatch.setitem(configs, name, TINY | {"quick_gelu": quick})
        monkeypatch.setitem(
            tags, name, {"openai": {"hf_hub": "no/where/", "quick_gelu": True}, "plain": {"hf_hub": "-"}}
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The project's own form: a tiny CLIP with convolutions before the image tower."""
    model = tiny_clip.build(CONFIG, seed=0).eval()
    tiny_clip.save(model, tmp_path / "tiny", CONFIG, seed=0, rows=[0, 320, 49406, 49407])
    return tmp_path / "tiny"


def write_open_clip(folder: Path, model: open_clip.CLIP) -> None:
    colours = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": colours}))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


def test_a_folder_of_the_projects_own_form_gives_the_model_and_its_context(folder: Path) -> None:
    backbone = clips.load_clip(str(folder))
    assert (backbone.image_size, backbone.mean, backbone.std) == (32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert backbone.tokenizer(["a photo of a cat."]).shape == (1, 12)
    assert not backbone.model.training
    assert backbone.name == str(folder)
    with torch.no_grad():
        assert backbone.model.encode_image(torch.zeros(2, 3, 32, 32)).shape == (2, 16)


def test_a_folder_of_open_clips_form_gives_its_weights_and_colours(tiny: open_clip.CLIP, tmp_path: Path) -> None:
    write_open_clip(tmp_path / "model", tiny)
    backbone = clips.load_clip(str(tmp_path / "model"))
    assert (backbone.image_size, backbone.mean, backbone.std) == (32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert backbone.fingerprint == fingerprint(tiny)


@pytest.mark.usefixtures("names")
def test_a_name_gives_random_weights_by_torchs_seed_or_those_of_a_file(tmp_path: Path) -> None:
    prints = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        prints.append(clips.load_clip("tiny-quickgelu").fingerprint)
    assert prints[0] == prints[1] != prints[2]
    torch.manual_seed(1)
    random = clips.load_clip("tiny-quickgelu", "")
    save_file(random.model.state_dict(), tmp_path / "weights.safetensors")
    assert clips.load_clip("tiny-quickgelu", str(tmp_path / "weights.safetensors")).fingerprint == prints[2]
    assert random.tokenizer(["a photo"]).shape == (1, 20)


def test_the_fingerprint_sees_one_changed_weight(tiny: open_clip.CLIP) -> None:
    before = fingerprint(tiny)
    assert len(before) == 64
    assert before == fingerprint(tiny)
    with torch.no_grad():
        tiny.logit_scale.add_(1e-6)
    assert fingerprint(tiny) != before


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B/16", "", "there is no folder ViT-B/16 and no open_clip model .* near matches: .*ViT-B-16"),
        ("no_such_folder", "", "there is no folder no_such_folder"),
        ("lib", "", "is no backbone: it has neither tiny_clip.json nor open_clip_config.json"),
        ("lib", "openai", "lib is a folder with its own weights; leave pretrained 'openai' empty"),
        (
            "ViT-B-16-quickgelu",
            "opnai",
            "'opnai': no file of that name, and no tag of ViT-B-16.*its tags: .*openai",
        ),
        ("tiny-quickgelu", "no/such/file.safetensors", "no file of that name"),
        ("ViT-B-16", "openai", "trained with QuickGELU; use model ViT-B-16-quickgelu"),
        ("tiny", "openai", "trained with QuickGELU; use model tiny-quickgelu"),
        ("tiny-quickgelu", "plain", "trained with GELU; use model tiny"),
        ("tiny-quickgelu", "pyproject.toml", "pyproject.toml holds no weights"),
        ("RN50", "", "the image tower is a ModifiedResNet"),
    ],
)
def test_what_cannot_be_loaded_is_an_error_that_says_why(model: str, pretrained: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clips.load_clip(model, pretrained)


@pytest.mark.usefixtures("names")
def test_weights_of_another_shape_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    save_file({"logit_scale": torch.zeros(())}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors has no weights that fit tiny-quickgelu"):
        clips.load_clip("tiny-quickgelu", str(tmp_path / "other.safetensors"))


def test_a_folder_without_weights_or_with_a_broken_config_is_an_error(tiny: open_clip.CLIP, tmp_path: Path) -> None:
    write_open_clip(tmp_path / "model", tiny)
    (tmp_path / "model" / "open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model holds no whole model of open_clip"):
        clips.load_clip(str(tmp_path / "model"))
    (tmp_path / "model" / "open_clip_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"model holds no whole model of open_clip"):
        clips.load_clip(str(tmp_path / "model"))


@pytest.mark.usefixtures("names")
def test_a_download_that_fails_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", unreachable)
    with pytest.raises(ConnectionError, match=r"no route to host.*path of a downloaded file, or model a local folder"):
        clips.load_clip("tiny-quickgelu", "openai")


def test_long_captions_are_cut_and_keep_their_end_token(folder: Path) -> None:
    tokenizer = clips.load_clip(str(folder)).tokenizer
    tokens = tokenizer(["a cat", "word " * 40])
    assert tokens.shape == (2, 12)
    assert tokens[1, -1] == 49407
    assert (tokens.argmax(dim=1) == torch.tensor([3, 11])).all()


def test_text_features_of_cut_prompts_are_those_of_the_full_context(tiny: open_clip.CLIP, tokens: Tensor) -> None:
    with torch.no_grad():
        full = tiny.encode_text(tokens)
    torch.testing.assert_close(clips.encode_text(tiny, tokens), full, rtol=0, atol=1e-5)
    torch.testing.assert_close(clips.encode_text(tiny, tokens, batch=3), full, rtol=0, atol=1e-5)


def test_preprocessing_is_what_open_clip_does_to_a_picture_of_the_right_size() -> None:
    pictures = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    theirs: Any = open_clip.image_transform(32, is_train=False, mean=mean, std=std)
    expected = torch.stack([theirs(Image.fromarray(p.permute(1, 2, 0).numpy())) for p in pictures])
    torch.testing.assert_close(clips.preprocess(pictures, mean, std), expected)


def test_pictures_that_are_no_bytes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"images are torch\.float32; give uint8"):
        clips.preprocess(torch.zeros(1, 3, 4, 4), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def spell(prompts: list[str]) -> Tensor:
    """A tokenizer of letters."""
    return torch.tensor([[ord(c) for c in prompt.ljust(12)[:12]] for prompt in prompts])


def test_class_features_are_the_normalised_mean_of_normalised_features() -> None:
    table = torch.randn(128, 5, generator=torch.Generator().manual_seed(0))
    templates = ["a {}.", "the {}"]
    found = clips.zero_shot_classifier(lambda t: table[t].sum(dim=1), spell, ["cat", "dog", "bird"], templates)
    for row, name in zip(found, ["cat", "dog", "bird"], strict=True):
        each = [table[spell([template.format(name)])].sum(dim=1)[0] for template in templates]
        mean = torch.stack([feature / feature.norm() for feature in each]).mean(dim=0)
        torch.testing.assert_close(row, mean / mean.norm())


@pytest.mark.parametrize(("templates", "message"), [(["a cat"], "'a cat' has no {}"), ([], "no template")])
def test_templates_without_a_place_for_the_class_are_an_error(templates: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clips.zero_shot_classifier(lambda t: t.float(), spell, ["cat"], templates)

"""The frozen CLIP: loading it and what is refused, its inputs, its templates, the device, bf16 in training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.openai import load_openai_model
from PIL import Image
from safetensors.torch import save_file

from lib.clip import load_clip, preprocess, tiny, zero_shot_classifier
from lib.clip.backbone import fingerprint, is_bf16, set_up
from lib.moe import Router
from lib.study.train import learn_task
from tests.support import small_study

CONFIG = {"image_size": 32, "width": 32, "layers": 1, "heads": 2, "embed": 16, "context": 12, "text_layers": 1}
TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 128, "width": 64, "heads": 2, "layers": 2},
}
B16 = "ViT-B-16-quickgelu"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiny models in open_clip's list, with QuickGELU and without, each with a tag for either."""
    configs: Any = open_clip.factory._MODEL_CONFIGS
    tags: Any = open_clip.pretrained._PRETRAINED
    for name, quick in (("tiny-quickgelu", True), ("tiny", False)):
        monkeypatch.setitem(configs, name, TINY | {"quick_gelu": quick})
        openai = {"hf_hub": "no/where/", "quick_gelu": True}
        monkeypatch.setitem(tags, name, {"openai": openai, "plain": {"hf_hub": "-"}})


@torch.no_grad()
def test_a_folder_of_the_tiny_clip_gives_the_model_its_colours_and_its_context(tmp_path: Path) -> None:
    tiny.save(tiny.build(CONFIG, seed=0), tmp_path / "tiny", CONFIG, seed=0, rows=[0, 320, 49406, 49407])
    backbone = load_clip("tiny", root=tmp_path)
    assert (backbone.name, backbone.image_size, backbone.mean, backbone.std) == ("tiny", 32, (0.5,) * 3, (0.5,) * 3)
    assert not backbone.model.training
    assert backbone.model.encode_image(torch.zeros(2, 3, 32, 32)).shape == (2, 16)
    tokens = backbone.tokenizer(["a cat", "word " * 40])
    assert tokens.shape == (2, 12)
    assert tokens.argmax(dim=1).tolist() == [3, 11]  # a long caption is cut and keeps its end token


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_config.json"])
def test_a_folder_in_open_clips_form_gives_its_weights_and_colours_and_must_be_whole(
    tiny: open_clip.CLIP, tmp_path: Path, file: str
) -> None:
    colours = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": colours}))
    save_file(tiny.state_dict(), tmp_path / "open_clip_model.safetensors")
    backbone = load_clip(str(tmp_path))
    assert (backbone.image_size, backbone.mean, backbone.std) == (32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert backbone.fingerprint == fingerprint(tiny)
    (tmp_path / file).write_text("{")
    with pytest.raises(ValueError, match=f"{tmp_path} holds no whole model of open_clip"):
        load_clip(str(tmp_path))


@pytest.mark.usefixtures("names")
def test_a_name_gives_random_weights_by_torchs_seed_or_those_of_a_file(tmp_path: Path) -> None:
    loaded = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        loaded.append(load_clip("tiny-quickgelu"))
    first, again, other = loaded
    assert first.fingerprint == again.fingerprint != other.fingerprint
    state = other.model.state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    assert load_clip("tiny-quickgelu", "weights.safetensors", tmp_path).fingerprint == other.fingerprint
    save_file({"logit_scale": state["logit_scale"]}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors .* tiny-quickgelu"):
        load_clip("tiny-quickgelu", "other.safetensors", tmp_path)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B/16", "", "ViT-B/16 .* near matches: .*ViT-B-16"),
        ("lib", "", "no tiny_clip.json, open_clip_config.json or config.json"),
        ("lib", "openai", "lib has its own weights.* 'openai'"),
        (B16, "opnai", "'opnai': .* its tags: .*openai"),
        ("tiny", "openai", "QuickGELU; use model tiny-quickgelu"),
        ("tiny-quickgelu", "plain", "trained with GELU; use model tiny"),
        ("tiny-quickgelu", "pyproject.toml", "pyproject.toml holds no weights"),
        ("RN50", "", "ModifiedResNet"),
    ],
)
def test_what_cannot_be_loaded_is_an_error_that_says_why(model: str, pretrained: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_clip(model, pretrained)


@pytest.mark.usefixtures("names")
def test_a_download_that_fails_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", unreachable)
    with pytest.raises(ConnectionError, match="no route to host.* downloaded file"):
        load_clip("tiny-quickgelu", "openai")


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:FutureWarning")  # open_clip tries it first
@torch.no_grad()
def test_openais_own_file_gives_the_features_of_open_clips_loader_and_needs_quickgelu(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {name: tensor.half() for name, tensor in open_clip.create_model(B16).state_dict().items()}
    sizes = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}  # stand beside the weights
    file = tmp_path / "ViT-B-16.pt"
    torch.save(state | {name: torch.tensor(size) for name, size in sizes.items()}, file)
    backbone, theirs = load_clip(B16, str(file)), load_openai_model(str(file), device="cpu")
    ours, images = backbone.model, torch.randn(2, 3, 224, 224)
    tokens = backbone.tokenizer(["a photo of a cat.", "two dogs"])
    assert (backbone.image_size, backbone.mean) == (224, open_clip.OPENAI_DATASET_MEAN)
    torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=f"use model {B16}"):
        load_clip("ViT-B-16", str(file))


def test_the_fingerprint_sees_one_changed_weight(tiny: open_clip.CLIP) -> None:
    before = fingerprint(tiny)
    with torch.no_grad():
        tiny.logit_scale.add_(1e-6)
    assert fingerprint(tiny) != before


def test_preprocessing_is_what_open_clip_does_to_an_image_of_the_right_size() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    theirs: Any = open_clip.image_transform(32, is_train=False, mean=mean, std=std)
    expected = torch.stack([theirs(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    torch.testing.assert_close(preprocess(images, mean, std), expected)
    with pytest.raises(ValueError, match=r"torch\.float32; give uint8"):
        preprocess(images.float(), mean, std)


@pytest.mark.parametrize(("templates", "message"), [(["a cat"], "'a cat' has no {}"), ([], "no template")])
def test_templates_without_a_place_for_the_class_are_an_error(templates: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zero_shot_classifier(lambda tokens: tokens, lambda prompts: torch.zeros(len(prompts), 4), ["cat"], templates)


@pytest.mark.parametrize("gpu", [True, False])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    products: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", products.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    threads, cpu = torch.get_num_threads(), torch.device("cpu")
    assert set_up(threads, "auto", "auto") == (torch.device("cuda:0") if gpu else cpu)
    assert set_up(threads, "cpu", "auto") == cpu
    if gpu:
        assert set_up(threads, "cuda", "fp32") == torch.device("cuda:0")
        assert products == ["high", "highest"]
    else:
        with pytest.raises(ValueError, match=r"compute\.device is cuda"):
            set_up(threads, "cuda", "auto")


def test_bf16_is_the_default_on_a_gpu_only() -> None:
    cases = [("auto", "cpu"), ("auto", "cuda"), ("fp32", "cuda"), ("bf16", "cpu")]
    assert [is_bf16(kind, torch.device(device)) for kind, device in cases] == [False, True, False, True]


@pytest.mark.parametrize("name", ["finetune", "moe_adapters", "lora"])
def test_bf16_learns_nearly_the_same_and_keeps_weights_in_single_precision(name: str) -> None:
    losses, settings = [], replace(small_study.study().train, steps=8)
    for precision in ("fp32", "bf16"):
        method = small_study.method(name)
        losses.append(learn_task(method, small_study.lessons()[0], settings, precision))
        assert not {v.dtype for v in method.state().values()} & {torch.bfloat16, torch.float16}
    exact, short = losses
    assert short != exact
    assert short[0] == pytest.approx(exact[0], rel=0.02)
    assert short[-1] < short[0]


def test_a_router_decides_in_single_precision() -> None:
    router = Router(8, 4, 2).train()
    torch.nn.init.normal_(router.weight)
    x0, noise = torch.randn(5, 8), torch.randn(5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        short = router(x0, noise)
    assert torch.equal(short.gates, router(x0, noise).gates)

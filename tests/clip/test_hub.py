"""A CLIP in transformers' layout: the features of that library's own model, and what the hub may answer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.clip import hub, load_clip, towers
from lib.study.studies import ROOT
from tests.support.hub_server import hub as serve

transformers: Any = pytest.importorskip("transformers")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHAPES = {  # hidden_act, and for each tower width, heads and the width of its MLP
    "heads of 64, QuickGELU": ("quick_gelu", (64, 1, 256), (64, 1, 256)),
    "heads of 32, GELU, other MLPs": ("gelu", (96, 3, 192), (64, 2, 320)),
}


def saved(folder: Path, shape: str = "heads of 64, QuickGELU") -> Any:
    """A random CLIPModel, saved by its own library."""
    act, vision, text = SHAPES[shape]
    names = ("hidden_size", "num_attention_heads", "intermediate_size")
    config = transformers.CLIPConfig(
        vision_config={"num_hidden_layers": 2, "image_size": 32, "patch_size": 8, "hidden_act": act}
        | dict(zip(names, vision, strict=True)),
        text_config={"num_hidden_layers": 3, "max_position_embeddings": 20, "hidden_act": act}
        | dict(zip(names, text, strict=True)),
        projection_dim=48,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms are trivial in a new model
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def tensor(output: Any) -> Tensor:
    """The features, in whatever the library wraps them."""
    return output if isinstance(output, Tensor) else output.pooler_output


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_features_are_those_of_transformers_in_both_towers(tmp_path: Path, shape: str) -> None:
    model = saved(tmp_path / "clip", shape)
    backbone = load_clip("clip", root=tmp_path)
    towers.check(backbone.model)
    images = torch.randn(3, 3, 32, 32)
    tokens = backbone.tokenizer(["a photo of a cat.", "a very long photo of a dog that runs", "x"])
    torch.testing.assert_close(
        backbone.model.encode_image(images), tensor(model.get_image_features(images)), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        backbone.model.encode_text(tokens), tensor(model.get_text_features(tokens)), rtol=1e-5, atol=1e-5
    )
    assert backbone.model.logit_scale.item() == model.logit_scale.item()
    assert (backbone.image_size, tokens.shape) == (32, (3, 20))
    assert backbone.mean == hub.OPENAI_MEAN


def test_older_files_and_other_colours_are_read(tmp_path: Path) -> None:
    saved(tmp_path)
    whole = load_clip(str(tmp_path)).fingerprint
    state = load_file(tmp_path / "model.safetensors")
    positions = {f"{tower}_model.embeddings.position_ids": torch.arange(20)[None] for tower in ("text", "vision")}
    save_file(state | positions, tmp_path / "model.safetensors")
    colours = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(colours))
    backbone = load_clip(str(tmp_path))
    assert backbone.fingerprint == whole
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"model_type": "siglip"}, "model_type is 'siglip', not clip"),
    "two activations": ({"text_config": {"hidden_act": "gelu"}}, "hidden_act is gelu and quick_gelu"),
    "another activation": (
        {part: {"hidden_act": "relu"} for part in ("text_config", "vision_config")},
        "hidden_act is relu",
    ),
    "other tokens": ({"text_config": {"vocab_size": 100}}, "has 100 tokens"),
    "another depth": ({"vision_config": {"num_hidden_layers": 3}}, "Missing key.*resblocks.2"),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES)
def test_a_folder_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{tmp_path} holds no whole CLIP of transformers: .*{message}"):
        load_clip(str(tmp_path))


def test_an_unknown_tensor_or_half_a_file_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    save_file(state | {"head.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="a tensor head.weight"):
        load_clip(str(tmp_path))
    save_file(state, file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="holds no whole CLIP"):
        load_clip(str(tmp_path))


def loaded(endpoint: str, home: Path, commit: str = COMMIT, name: str = "me/clip") -> subprocess.CompletedProcess[str]:
    """What a process says that loads a CLIP from the hub at an address, with its cache in `home`."""
    code = f"from lib.clip import load_clip; print(load_clip('hf:{name}@{commit}').fingerprint)"
    env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PATH": "", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)


def test_a_model_comes_from_the_hub_once_and_a_cut_download_goes_on(tmp_path: Path) -> None:
    saved(tmp_path / "repo")
    wanted, cache = load_clip(str(tmp_path / "repo")).fingerprint, tmp_path / "cache"
    with serve({("models", "me/clip", COMMIT): tmp_path / "repo"}) as (address, handler):
        handler.cut["model.safetensors"] = 11_000_000  # the library writes ten million at once
        first = loaded(address, cache)
        again = first if first.returncode == 0 else loaded(address, cache)  # the library itself may try again
        assert again.stdout.strip() == wanted, again.stderr
        assert any("model.safetensors bytes=" in line for line in handler.asked), handler.asked
        missing = loaded(address, cache, "f" * 40)
        assert "the hub has no me/clip at commit ffff" in missing.stderr
        assert "the hub has no me/other" in loaded(address, cache, name="me/other").stderr
    assert loaded(address, cache).stdout.strip() == wanted  # without the server, from the cache
    assert "ConnectionError" in (gone := loaded(address, tmp_path / "empty").stderr)
    assert "could not be fetched" in gone
    assert "config.json and model.safetensors" in gone


@pytest.mark.parametrize("address", ["hf:clip", "hf:me/clip", "hf:me/clip@main", "hf:../../x@" + COMMIT])
def test_an_address_without_a_commit_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="all 40 digits"):
        load_clip(address)

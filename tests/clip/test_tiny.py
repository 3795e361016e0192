"""The tiny CLIP: its towers and its folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.clip import tiny

SMALL = {"image_size": 48, "width": 32, "layers": 1, "heads": 2, "embed": 16, "context": 32, "text_layers": 1}
LEAST = SMALL | {"image_size": 16, "width": 8, "heads": 1, "embed": 4}


def equal(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_same_seed_same_model_and_torchs_random_state_untouched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    model = tiny.build(SMALL, seed=1)
    assert torch.rand(1) == expected
    assert equal(model, tiny.build(SMALL, seed=1))
    assert not equal(model, tiny.build(SMALL, seed=2))


def test_the_stem_makes_one_token_of_8_by_8_pixels() -> None:
    model: Any = tiny.build(SMALL, seed=0)
    assert model.visual.conv1(torch.zeros(2, 3, 48, 48)).shape == (2, 32, 6, 6)
    assert model.encode_image(torch.zeros(2, 3, 48, 48)).shape == (2, 16)


def test_a_saved_model_is_loaded_in_half_precision_and_unused_words_exactly(tmp_path: Path) -> None:
    model: Any = tiny.build(SMALL, seed=3).eval()
    used = [0, 320, 49406, 49407]
    with torch.no_grad():
        model.token_embedding.weight[used] += 1
    tiny.save(model, tmp_path / "deep" / "tiny", SMALL, 3, used)
    assert (tmp_path / "deep" / "tiny" / "tiny_clip.safetensors").stat().st_size < 200_000
    again = tiny.load(tmp_path / "deep" / "tiny")
    before, after = model.state_dict(), again.state_dict()
    for name in set(before) - {tiny.TABLE}:
        expected = before[name].half().float() if before[name].is_floating_point() else before[name]
        assert torch.equal(after[name], expected)
    table = before[tiny.TABLE].clone()
    table[used] = table[used].half().float()
    assert torch.equal(after[tiny.TABLE], table)  # unused rows are exact: they come from the seed
    assert not again.training
    tiny.save(again, tmp_path / "twice", SMALL, 3, used)
    for name in ("tiny_clip.json", "tiny_clip.safetensors"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "deep" / "tiny" / name).read_bytes()


@pytest.mark.parametrize("damage", ["weights cut", "weights gone", "about cut", "about lacks rows", "other shape"])
def test_a_damaged_folder_is_named(tmp_path: Path, damage: str) -> None:
    tiny.save(tiny.build(LEAST, seed=0), tmp_path, LEAST, 0, [0, 1])
    weights, about = tmp_path / "tiny_clip.safetensors", tmp_path / "tiny_clip.json"
    if damage == "weights cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "weights gone":
        weights.unlink()
    elif damage == "about cut":
        about.write_text(about.read_text()[:-5])
    elif damage == "about lacks rows":
        about.write_text(json.dumps({"config": LEAST, "seed": 0}))
    else:
        about.write_text(json.dumps({"config": LEAST | {"width": 16}, "seed": 0, "rows": [0, 1]}))
    with pytest.raises(ValueError, match=f"{tmp_path} holds no whole tiny CLIP"):
        tiny.load(tmp_path)

"""The tiny CLIP: its towers and its folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.clip import tiny
from lib.clip.backbone import fingerprint

SMALL = {"image_size": 48, "width": 32, "layers": 1, "heads": 2, "embed": 16, "context": 32, "text_layers": 1}
LEAST = SMALL | {"image_size": 16, "width": 8, "heads": 1, "embed": 4}


def test_same_seed_same_model_and_torchs_random_state_untouched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    model = tiny.build(SMALL, seed=1)
    assert torch.rand(1) == expected
    assert fingerprint(model) == fingerprint(tiny.build(SMALL, seed=1)) != fingerprint(tiny.build(SMALL, seed=2))


def test_a_saved_model_is_loaded_in_half_precision_and_unused_words_exactly(tmp_path: Path) -> None:
    model: Any = tiny.build(SMALL, seed=3).eval()
    used = [0, 320, 49406, 49407]
    with torch.no_grad():
        model.token_embedding.weight[used] += 1
    tiny.save(model, tmp_path / "deep" / "tiny", SMALL, 3, used)
    after, exact = tiny.load(tmp_path / "deep" / "tiny").state_dict(), model.state_dict()
    expected = {name: each.half().float() if each.is_floating_point() else each for name, each in exact.items()}
    unused = torch.ones(len(exact[tiny.TABLE]), dtype=torch.bool)
    unused[used] = False
    expected[tiny.TABLE][unused] = exact[tiny.TABLE][unused]  # they come from the seed
    assert all(torch.equal(after[name], each) for name, each in expected.items())


OTHER = {"config": LEAST | {"width": 16}, "seed": 0, "rows": [0, 1]}
DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "weights cut short": ("tiny_clip.safetensors", lambda raw: raw[:-1]),
    "a missing key": ("tiny_clip.json", lambda raw: raw.replace(b"rows", b"lines")),
    "weights of another shape": ("tiny_clip.json", lambda _: json.dumps(OTHER).encode()),
}


@pytest.mark.parametrize(("name", "change"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_folder_is_named(tmp_path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    tiny.save(tiny.build(LEAST, seed=0), tmp_path, LEAST, 0, [0, 1])
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(ValueError, match=f"{tmp_path} holds no whole tiny CLIP"):
        tiny.load(tmp_path)

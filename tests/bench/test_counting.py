"""What an evaluation costs, counted by hand and against the operations that torch counts."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lib.clip import towers
from tools.bench import operations as counting
from tools.datasets.catalogue import catalogue

NAMES = [
    "aircraft",
    "caltech101",
    "cifar100",
    "dtd",
    "eurosat",
    "flowers",
    "food",
    "mnist",
    "pets",
    "cars",
    "sun397",
]


@pytest.mark.parametrize("read", [0, 1])
def test_a_towers_operations_are_those_that_torch_counts(tiny: open_clip.CLIP, images: Tensor, read: int) -> None:
    with FlopCounterMode(display=False) as counter:
        towers.image_tower(tiny, images[:1], whole=not read)
    seen = counter.get_total_flops()
    patches, projection = 2 * 16 * 64 * 3 * 8**2, 2 * 64 * 32
    attention = sum(n for name, n in counter.get_flop_counts()["Global"].items() if "attention" in str(name))
    products = counting.tower_flops(64, 2, 17, read) - 4 * 17 * 64 * (17 + (read or 17))  # attention's own aside
    assert seen - attention == products + patches + projection


def test_operations_by_hand() -> None:
    assert counting.tower_flops(2, 3, 5) == 3 * 5 * (24 * 4 + 4 * 5 * 2)
    last = 5 * 4 * 4 + 1 * (20 * 4 + 4 * 5 * 2)
    assert counting.tower_flops(2, 3, 5, read=1) == 2 * 5 * (24 * 4 + 4 * 5 * 2) + last


def test_prompts_are_those_of_a_data_set_of_that_size() -> None:
    assert len(counting.prompts(100)) == 100
    assert counting.prompts(100)[0] == "a photo of a 707-320, a type of aircraft."
    assert len(counting.prompts(397)) == 397


def test_passes_over_mtils_pictures() -> None:
    pictures = [catalogue(name).test for name in NAMES]
    assert sum(pictures) == 97209
    best, worst = counting.evaluation(0.0), counting.evaluation(1.0)
    assert best["passes_a_picture"] == {"plain": 11, "ours": 2.0}
    routed = sum(count * (11 - place) for place, count in enumerate(pictures))
    assert worst["passes_a_picture"]["ours"] == pytest.approx(1 + routed / 97209, abs=0.005)
    assert best["ratio"] > worst["ratio"] > 1
    images = 11 * 97209 * (counting.PATCHES + counting.tower_flops(768, 12, 197))
    prompts = sum(len(catalogue(name).names) * len(catalogue(name).templates) for name in NAMES)
    texts = 11 * 12 * prompts * counting.tower_flops(512, 12, 77)
    assert best["operations"]["plain"] == pytest.approx(images + texts)


def written(folder: Path, kind: str, name: str, content: dict[str, Any]) -> None:
    file = folder / kind / "mini" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_what_was_asked_again_is_read_from_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "REPORTS", tmp_path)
    assert counting.asked_again() is None
    routed = {"sample": [[[4, 6], [1, 9], [0, 20]]]}  # 10, 10 and 20 test pictures
    written(tmp_path, "results", "moe_adapters--I--s0.json", {"routed": routed})
    written(tmp_path, "cost", "moe_adapters--I--s0.json", {"seconds": {}})
    assert counting.asked_again() is None
    for seed, asked in ((0, [10, 15, 30]), (1, [10, 17, 32])):
        told = dict(zip("abc", asked, strict=True))
        written(tmp_path, "cost", f"moe_adapters--I--s{seed}.json", {"encoded_pictures": told})
    passes, again = counting.asked_again() or (0.0, 0.0)
    assert passes == pytest.approx(1 + (10 + 16 + 31) / 40)
    assert again == pytest.approx((0 + 6 + 11) / (0 + 10 + 20))


def test_batches_by_hand() -> None:
    first = [[8, 2], [0, 10]]  # of task 0 a fifth goes to CLIP, of task 1 all does
    second = [[5, 5, 0], [4, 1, 5]]
    # as if each had 100 pictures, in batches of 64: 80 -> 2; 50 and 50, 40 and 10 -> 4, pooled 90 and 60 -> 3
    assert counting.batches([first, second], 100, 64) == (2 + 4, 2 + 3)


def test_pooling_needs_a_study_that_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "REPORTS", tmp_path)
    assert counting.pooling() is None
    written(tmp_path, "results", "moe_adapters--I--s0.json", {"routed": {"sample": [[[10, 0]]]}})
    whole = -(-(97209 // 11) // 128)
    assert counting.pooling() == {"by_task": whole, "pooled": whole}


def test_short_prompts_cost_less_than_the_context() -> None:
    tokenizer = open_clip.get_tokenizer("ViT-B-16-quickgelu")
    whole, short = counting.text_flops(catalogue("eurosat"), tokenizer)
    entry = catalogue("eurosat")
    assert whole == len(entry.names) * len(entry.templates) * counting.tower_flops(512, 12, 77)
    assert short < whole / 4

"""The work of an evaluation: operations against a tower worked out by hand, passes against sums."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest

from tools.bench import evaluation
from tools.datasets.catalogue import catalogue

NAMES = ["aircraft", "caltech101", "cifar100", "dtd", "eurosat", "flowers", "food", "mnist", "pets", "cars", "sun397"]


def tower(width: int, layers: int, tokens: int, read: int = 0) -> int:
    """A token takes 24 D^2 for products (4 D^2 of them for keys and values) and 4 L D for attention; in the last block
    only `read` tokens need more than keys and values."""
    whole = tokens * (24 * width**2 + 4 * tokens * width)
    last = tokens * 4 * width**2 + read * (20 * width**2 + 4 * tokens * width) if read else whole
    return (layers - 1) * whole + last


@pytest.mark.parametrize("whole", [True, False])
def test_operations_are_those_of_a_tower_worked_out_by_hand(whole: bool) -> None:
    patches, projection = 2 * 196 * 768 * 3 * 16**2, 2 * 768 * 512
    assert evaluation.image_operations(whole) == patches + tower(768, 12, 197, 0 if whole else 1) + projection
    assert evaluation.text_operations(9, whole) == tower(512, 12, 9, 0 if whole else 2) + 2 * 512 * 512


def test_passes_over_mtils_pictures() -> None:
    pictures = [catalogue(name).test for name in NAMES]
    assert sum(pictures) == 97209
    best, worst = evaluation.evaluation(0.0), evaluation.evaluation(1.0)
    assert best["passes_a_picture"] == {"plain": 11, "ours": 2.0}
    routed = sum(count * (11 - place) for place, count in enumerate(pictures))
    assert worst["passes_a_picture"]["ours"] == pytest.approx(1 + routed / 97209, abs=0.005)
    assert best["ratio"] > worst["ratio"] > 1
    prompts = sum(len(catalogue(name).names) * len(catalogue(name).templates) for name in NAMES)
    images, texts = 11 * 97209 * evaluation.image_operations(True), 11 * 12 * prompts * tower(512, 12, 77)
    assert best["operations"]["plain"] == pytest.approx(images + texts, rel=1e-3)


def test_short_prompts_cost_less_than_the_context() -> None:
    plain, ours = evaluation.class_operations(catalogue("eurosat"), open_clip.get_tokenizer(evaluation.MODEL))
    assert ours < plain / 4


def write(folder: Path, kind: str, seed: int, content: dict[str, Any]) -> None:
    file = folder / kind / "mini" / f"moe_adapters--I--s{seed}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_the_share_that_runs_again_is_read_from_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "REPORTS", tmp_path)
    assert evaluation.asked_again() is None
    write(tmp_path, "results", 0, {"routed": {"sample": [[[4, 6], [1, 9], [0, 20]]]}})  # 10, 10 and 20 test pictures
    write(tmp_path, "cost", 0, {"seconds": {}})
    assert evaluation.asked_again() is None
    for seed, asked in ((0, [10, 15, 30]), (1, [10, 17, 32])):
        write(tmp_path, "cost", seed, {"encoded_pictures": dict(zip("abc", asked, strict=True))})
    passes, again = evaluation.asked_again() or (0.0, 0.0)
    assert passes == pytest.approx(1 + (10 + 16 + 31) / 40)
    assert again == pytest.approx((0 + 6 + 11) / (0 + 10 + 20))

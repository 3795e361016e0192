"""The work of an evaluation: operations against a tower worked out by hand, passes against sums."""

import json

import numpy as np
import pytest

from tests.support.committed_files import committed_files
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
    best, worst = evaluation.evaluation(0.0), evaluation.evaluation(1.0)
    assert best["passes_a_picture"] == {"plain": 11, "ours": 2.0}
    routed = sum(count * (11 - place) for place, count in enumerate(pictures))
    assert worst["passes_a_picture"]["ours"] == pytest.approx(1 + routed / sum(pictures), abs=0.005)
    assert best["ratio"] > worst["ratio"] > 1
    prompts = sum(len(catalogue(name).names) * len(catalogue(name).templates) for name in NAMES)
    images, texts = 11 * sum(pictures) * evaluation.image_operations(True), 11 * 12 * prompts * tower(512, 12, 77)
    assert best["operations"]["plain"] == pytest.approx(images + texts, rel=1e-3)
    plain, ours = evaluation.class_operations(catalogue("eurosat"))
    assert ours < plain / 4  # short prompts cost less than the context


def test_the_share_that_runs_again_is_the_small_studys() -> None:
    """A picture may run through several routers: its own choice, its batch's, and the oracle's."""
    results, costs = (
        [
            json.loads(text)
            for name, text in committed_files(f"reports/{kind}/mini").items()
            if "moe_adapters--I--s" in name
        ]
        for kind in ("results", "cost")
    )
    tested = np.sum(results[0]["routed"]["sample"][0], axis=1)  # (T,) test pictures
    asked = np.mean([list(cost["encoded_pictures"].values()) for cost in costs], axis=0)
    earlier = np.cumsum(tested) - tested
    assert (asked - tested).sum() / earlier.sum() == pytest.approx(evaluation.AGAIN, abs=0.005)

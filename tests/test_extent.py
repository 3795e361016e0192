"""What a full study asks for: hand-worked numbers, and the README's table."""

from dataclasses import replace

import open_clip
import pytest

from lib import extent, params, report
from lib.extent import Part
from lib.paths import ROOT


@pytest.fixture(scope="module")
def mtil() -> params.Study:
    return params.load("studies/mtil/params.yaml")


def test_the_readmes_table_is_that_of_the_params() -> None:
    text = (ROOT / "README.md").read_text()
    assert report.with_table(text, extent.table(), extent.MARKS) == text, "run `python -m lib.extent`"


def test_a_data_set_that_is_cut_becomes_several_tasks() -> None:
    study = params.load("studies/cil_cifar100_50/params.yaml")
    found = extent.parts(study)
    assert len(found) == 50
    assert {(len(part.names), part.train, part.test) for part in found} == {(2, 1000, 200)}
    assert found[0].template == "a bad photo of a {}."


def test_steps_follow_epochs_or_are_given(mtil: params.Study) -> None:
    part = Part(("a", "b"), "{}", 640, 100)
    assert extent.steps(mtil, "moe_adapters", part) == mtil.train.steps
    assert extent.steps(mtil, "zero_shot", part) == 0
    by_epoch = replace(mtil, train=replace(mtil.train, epochs=2))
    assert extent.steps(by_epoch, "moe_adapters", part) == 2 * (640 // mtil.train.batch)


def test_few_shots_are_so_many_of_a_class() -> None:
    study = params.load("studies/mtil_5shot/params.yaml")
    assert extent.seen(study, "moe_adapters", Part(("a", "b"), "{}", 640, 100)) == 10
    assert extent.seen(study, "moe_adapters", Part(("a", "b"), "{}", 6, 100)) == 6


def test_the_methods_checkpoint_is_that_of_the_published_sizes(mtil: params.Study) -> None:
    widths = [768] * 12 + [512] * 12
    pool = sum(22 * (2 * d * 64 + 64 + d) for d in widths)
    router = sum(2 * d * 22 for d in widths)
    assert pool == 43_625_472
    assert 11 * router == 7_434_240
    coder = 2 * 768 * mtil.selector.code + mtil.selector.code + 768
    once = replace(mtil, runs={"moe_adapters": replace(mtil.runs["moe_adapters"], by_task=False)})
    assert extent.kept(once, "moe_adapters") == 4 * (pool + 11 * (router + coder))
    chained = 4 * sum(pool + t * (router + coder) for t in range(1, 12))
    assert extent.kept(mtil, "moe_adapters") == chained


def test_fine_tuning_keeps_all_but_the_token_table() -> None:
    model = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None)
    kept = sum(p.numel() for name, p in model.state_dict().items() if not name.startswith("token_embedding"))
    assert kept == extent.MODEL


def test_a_frozen_clip_takes_two_passes_and_a_trained_one_three(mtil: params.Study) -> None:
    assert 3 * extent.training(mtil, "moe_adapters") == 2 * extent.training(mtil, "finetune")
    assert extent.training(mtil, "zero_shot") == 0
    tests = [part.test for part in extent.parts(mtil)]
    assert extent.testing(mtil, "finetune") == 11 * sum(tests) * extent.PICTURE
    assert extent.testing(mtil, "finetune_single") == sum(tests) * extent.PICTURE
    routed = sum(test * (11 - place) for place, test in enumerate(tests))
    assert extent.testing(mtil, "moe_adapters") == routed * extent.PICTURE

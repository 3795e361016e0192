"""WiSE-FT: both ends, the way between them, and that it learns."""

from typing import Any

import pytest
import torch
from safetensors.torch import save

from lib.clip import backbone as clip
from tests.support import small_lessons, small_study


def taught(name: str, *numbers: int, **settings: Any) -> Any:
    return small_study.teach(small_study.method(name, **settings), *numbers)


def test_alpha_0_stays_where_it_was_and_alpha_1_is_finetune_bit_for_bit() -> None:
    kept, gone, plain = (
        taught("wise_ft", 0, alpha=0.0),
        taught("wise_ft", 0, alpha=1.0),
        taught("finetune", 0),
    )
    assert clip.fingerprint(kept.model) == small_study.backbone().fingerprint
    assert save(gone.state()) == save(plain.state())
    assert save(gone.state()) != save(kept.state())


def test_one_task_ends_between_clip_and_finetune() -> None:
    found, after = taught("wise_ft", 0, alpha=0.25).state(), taught("finetune", 0).state()
    before = small_study.backbone().model.state_dict()
    trained = set(small_study.method("wise_ft").trained())
    for name in trained:
        torch.testing.assert_close(found[name], 0.75 * before[name] + 0.25 * after[name])
    others = set(found) - trained
    assert {"logit_scale", "visual.conv1.1.running_mean", "visual.conv1.1.num_batches_tracked"} <= others
    for name in others:
        assert torch.equal(found[name], before[name])
        assert torch.equal(found[name], after[name])


def test_a_later_task_ends_between_the_model_before_it_and_the_fine_tuned_one() -> None:
    method, plain = taught("wise_ft", 0), small_study.method("finetune")
    plain.restore(method.state())
    before = {name: parameter.clone() for name, parameter in method.trained().items()}
    after = small_study.teach(plain, 1).trained()
    for name, parameter in small_study.teach(method, 1).trained().items():
        torch.testing.assert_close(parameter, (before[name] + after[name]) / 2)


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alphas_outside_0_to_1_are_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha is {alpha}; choose 0 to 1"):
        small_study.method("wise_ft", alpha=alpha)


def test_it_learns() -> None:
    losses, right = small_lessons.after_colours("wise_ft")
    assert losses[-1] < losses[0] / 2
    assert right > 70  # a third is chance
    assert clip.fingerprint(small_study.backbone().model) == small_study.backbone().fingerprint


def test_a_run_taken_up_gives_the_same_bytes() -> None:
    whole, resumed = small_lessons.in_one_go_and_taken_up("wise_ft")
    assert whole == resumed

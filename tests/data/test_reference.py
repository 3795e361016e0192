"""The reference set: pictures of none of the tasks with their captions, from the world, a folder or a data set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lib.data import tasks
from lib.data.folders import source
from lib.data.tasks import ReferenceSet, TaskError
from lib.study.opened import REFERENCE
from tests.support import miniatures, small_study
from tools.datasets.catalogue import catalogue
from tools.miniworld.world import example


def tokens_of(captions: list[str]) -> Tensor:
    return small_study.backbone().tokenizer(captions)


def made(home: Path, size: int = 32, template: str = "a photo of {}.", **changes: Any) -> ReferenceSet:
    """The reference set of the small study, as its source makes it and as it is read again."""
    study = small_study.study({f"reference.{key}": value for key, value in changes.items()})
    assert study.reference is not None
    images, captions = source(study.reference.source).reference(study.reference, template, size, home)
    held = ReferenceSet(tasks.channels_first(images), tokens_of(captions), torch.zeros(len(captions)).bool())
    tasks.save_reference(held, home / "set.safetensors")
    return tasks.load_reference(home / "set.safetensors")


def write_others(home: Path, count: int = 3) -> dict[str, list[np.ndarray]]:
    """Two classes of yellow pictures in a folder, and their pixels."""
    rng, written = np.random.default_rng(0), {}
    for label, name in enumerate(("bus", "ripe_lemon")):
        folder = home / "others" / name
        folder.mkdir(parents=True)
        written[name] = [small_study.picture(3, label, rng) for _ in range(count)]
        for index, picture in enumerate(written[name]):
            Image.fromarray(picture).save(folder / f"{index}.png")
    return written


def test_the_mini_set_is_the_worlds_held_out_pictures_with_their_captions(tmp_path: Path) -> None:
    held = made(tmp_path, template="see {}!", source="mini", pictures=5, seed=4)
    expected = [example(4, index, "held_out") for index in range(5)]
    assert (held.images.dtype, held.images.shape) == (torch.uint8, (5, 3, 32, 32))
    assert np.array_equal(held.images.permute(0, 2, 3, 1), np.stack([e.picture for e in expected]))
    assert torch.equal(held.tokens, tokens_of([f"see {e.name}!" for e in expected]))


def test_a_folder_gives_its_pictures_with_captions_by_the_template(tmp_path: Path) -> None:
    written = write_others(tmp_path)
    held = made(tmp_path, template="see {}!", pictures=100)
    assert np.array_equal(held.images.permute(0, 2, 3, 1), np.stack([*written["bus"], *written["ripe_lemon"]]))
    assert torch.equal(held.tokens, tokens_of(["see bus!"] * 3 + ["see ripe lemon!"] * 3))


def test_fewer_pictures_are_drawn_by_the_seed_with_their_own_captions(tmp_path: Path) -> None:
    written = write_others(tmp_path, count=10)
    first, again, other = (made(tmp_path, pictures=8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    caption = {
        picture.tobytes(): tokens_of([f"a photo of {name.replace('_', ' ')}."])[0]
        for name, pictures in written.items()
        for picture in pictures
    }
    drawn = [image.permute(1, 2, 0).contiguous().numpy().tobytes() for image in first.images]
    assert len(set(drawn)) == 8
    for key, tokens in zip(drawn, first.tokens, strict=True):
        assert torch.equal(tokens, caption[key])
    assert len(first.tokens.unique(dim=0)) == 2  # both classes


def test_a_data_set_gives_pictures_with_captions_by_its_class_names(tmp_path: Path) -> None:
    miniatures.write("tinyimagenet", tmp_path / "raw")
    held = made(tmp_path, source="datasets", root="raw", name="tinyimagenet", pictures=5, seed=1)
    labels = [miniatures.label_of(Image.fromarray(i.permute(1, 2, 0).numpy())) for i in held.images]
    assert len(set(labels)) == 5
    names = catalogue("tinyimagenet").names
    assert torch.equal(held.tokens, tokens_of([f"a photo of {names[label]}." for label in labels]))


@pytest.mark.parametrize(("templates", "form"), [(small_study.TEMPLATES, "a photo of {}."), ([], "a photo of a {}.")])
def test_it_lies_beside_the_tasks_uses_their_template_and_knows_their_names(
    tmp_path: Path, templates: list[str], form: str
) -> None:
    small_study.prepare(tmp_path)
    write_others(tmp_path)
    (tmp_path / "others" / "bus").rename(tmp_path / "others" / "upright_bus")  # a class of the tasks is upright
    opened = small_study.open_at(tmp_path, small_study.study({"tasks.templates": templates}))
    opened._prepare_reference(32)
    expected = [form.format(name) for name in ("ripe lemon", "upright bus") for _ in range(3)]
    held = opened.reference()
    assert torch.equal(held.tokens, tokens_of(expected))
    assert held.named.tolist() == [False] * 3 + [True] * 3
    assert torch.equal(held.without_names().images, held.images[:3])


def test_without_names_are_exactly_the_captions_that_hold_none_as_whole_words() -> None:
    names = ["plain sheet", "digit one", "cat"]
    captions = {"a plain sheet.": True, "cats": False, "a cat": True, "plain": False, "digit one": True, "sheet": False}
    assert {caption: tasks.names_any(caption, names) for caption in captions} == captions
    named, images = torch.tensor([*captions.values()]), torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    left = ReferenceSet(images, tokens_of([*captions]), named).without_names()
    assert left.images.flatten().tolist() == [1, 3, 5]
    assert torch.equal(left.tokens, tokens_of(["cats", "plain", "sheet"]))
    assert not left.named.any()
    with pytest.raises(TaskError, match="task_names"):
        ReferenceSet(images, images, torch.ones(6).bool()).without_names()


def test_a_study_without_one_says_who_needs_it(tmp_path: Path) -> None:
    small_study.write_pictures(tmp_path / "pictures")
    none = small_study.open_at(tmp_path, small_study.study({"reference": None}))
    none.prepare_tasks()
    assert not none.task_file(REFERENCE).exists()
    with pytest.raises(TaskError, match="tiny has no `reference:`.*ZSCL"):
        none.reference()
    with pytest.raises(TaskError, match="_reference.*delete it"):
        small_study.open_at(tmp_path).reference()


def test_pictures_of_another_size_than_the_backbones_are_refused(tmp_path: Path) -> None:
    small_study.write_pictures(tmp_path / "pictures")
    study = small_study.study({"reference.source": "mini", "reference.pictures": 2})
    opened = small_study.open_at(tmp_path, study)
    opened.backbone = replace(opened.backbone, image_size=48)
    with pytest.raises(TaskError, match="32 pixels.*wants 48"):
        opened.prepare_tasks()
    assert not opened.task_file(REFERENCE).exists()

"""The reference set: pictures of none of the tasks with their captions, from the world or a folder; what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor

from lib.data import reference, tasks
from lib.data.reference import ReferenceSet
from lib.data.tasks import TaskError
from lib.study import params
from tests.support import miniatures, small_study
from tools.datasets.catalogue import catalogue
from tools.miniworld.world import examples_of

CONTEXT = small_study.CONFIG["context"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_study.move(monkeypatch, tmp_path)
    return tmp_path


def tokens_of(captions: list[str]) -> Tensor:
    return open_clip.SimpleTokenizer(context_length=CONTEXT)(captions)


def made(study: params.Study, size: int = 32) -> ReferenceSet:
    reference.prepare(study, size, tokens_of)
    return reference.load(study)


def study(**changes: Any) -> params.Study:
    return small_study.study({f"reference.{key}": value for key, value in changes.items()})


def write_others(home: Path, count: int = 3) -> dict[str, list[np.ndarray]]:
    """Two classes of yellow pictures in a folder, and what is in them."""
    rng, written = np.random.default_rng(0), {}
    for label, name in enumerate(("bus", "ripe_lemon")):
        folder = home / "others" / name
        folder.mkdir(parents=True)
        written[name] = [small_study.picture(3, label, rng) for _ in range(count)]
        for index, picture in enumerate(written[name]):
            Image.fromarray(picture).save(folder / f"{index}.png")
    return written


@pytest.mark.usefixtures("home")
def test_the_mini_set_is_of_the_worlds_held_out_pictures_with_their_captions() -> None:
    wanted = study(source="mini", pictures=5, seed=4)
    found = made(wanted, size=48)
    examples = examples_of(4, range(5), "held_out")
    expected = torch.from_numpy(np.stack([example.picture for example in examples]))
    assert torch.equal(found.images, expected.permute(0, 3, 1, 2))
    assert torch.equal(found.tokens, tokens_of([example.caption for example in examples]))
    assert (found.images.dtype, found.images.shape) == (torch.uint8, (5, 3, 48, 48))
    trained = {example.picture.tobytes() for example in examples_of(4, range(5), "train")}
    assert not trained & {example.picture.tobytes() for example in examples}


def test_a_folder_gives_its_pictures_with_captions_by_the_first_template(home: Path) -> None:
    written = write_others(home)
    found = made(study(pictures=100))
    assert found.images.shape == (6, 3, 32, 32)
    expected = np.stack([*written["bus"], *written["ripe_lemon"]])
    assert np.array_equal(found.images.permute(0, 2, 3, 1), expected)
    captions = ["a photo of bus."] * 3 + ["a photo of ripe lemon."] * 3
    assert torch.equal(found.tokens, tokens_of(captions))


def test_without_templates_a_folders_captions_are_plain_ones(home: Path) -> None:
    write_others(home, count=1)
    plain = replace(study(), tasks=replace(study().tasks, templates=[]))
    assert torch.equal(made(plain).tokens, tokens_of(["a photo of a bus.", "a photo of a ripe lemon."]))


def test_fewer_pictures_are_a_seeded_draw_with_the_captions_that_belong_to_them(home: Path) -> None:
    written = write_others(home, count=10)
    first, again, other = (made(study(pictures=8, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    caption = {
        picture.tobytes(): tokens_of([f"a photo of {name.replace('_', ' ')}."])[0]
        for name, pictures in written.items()
        for picture in pictures
    }
    seen = [image.permute(1, 2, 0).contiguous().numpy().tobytes() for image in first.images]
    assert len(set(seen)) == 8
    for key, tokens in zip(seen, first.tokens, strict=True):
        assert torch.equal(tokens, caption[key])
    assert len(first.tokens.unique(dim=0)) == 2  # of both classes, not the first alone


def test_it_lies_beside_the_tasks_and_is_made_with_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_study.write_pictures(home / "pictures")
    write_others(home)
    monkeypatch.setattr("lib.clip.loading.load_clip", lambda model, pretrained: small_study.backbone())
    tasks.prepare(small_study.study())
    folder = home / "data" / "tiny" / "tasks"
    assert reference.path("tiny") == folder / "_reference.safetensors"
    names = {path.stem for path in folder.iterdir()}
    assert names == {*small_study.NAMES, "_reference"}
    assert len(reference.load(small_study.study()).images) == 6


def test_a_study_without_one_makes_none_and_says_who_needs_it(home: Path) -> None:
    none = small_study.study({"reference": None})
    reference.prepare(none, 32, tokens_of)
    assert not reference.path("tiny").exists()
    with pytest.raises(TaskError, match="study tiny has no `reference:` section; ZSCL, LwF-VR and selector.ref"):
        reference.load(none)


@pytest.mark.usefixtures("home")
def test_one_that_is_not_there_names_the_stage_that_makes_it() -> None:
    with pytest.raises(TaskError, match="_reference.safetensors is missing; the stage `tasks` makes it"):
        reference.load(small_study.study())


def test_a_folder_that_cannot_be_used_is_named(home: Path) -> None:
    with pytest.raises(TaskError, match=f"{home}/others is missing"):
        made(study())
    (home / "others" / "bus").mkdir(parents=True)
    (home / "others" / "lemon").mkdir()
    with pytest.raises(TaskError, match=f"{home}/others/bus has no picture"):
        made(study())


@pytest.mark.usefixtures("home")
def test_pictures_of_another_size_than_the_backbones_are_refused() -> None:
    with pytest.raises(TaskError, match="pictures have 48 pixels a side, the backbone wants 32"):
        made(study(source="mini", pictures=2))
    assert not reference.path("tiny").exists()


def test_pictures_of_a_data_set_are_drawn_with_captions_by_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study.move(monkeypatch, tmp_path)
    miniatures.write("tinyimagenet", tmp_path / "raw")
    raw = {"source": "datasets", "root": "raw", "name": "tinyimagenet", "pictures": 5, "seed": 1}
    study, backbone = small_study.study({"reference": raw}), small_study.backbone()
    reference.prepare(study, backbone.image_size, backbone.tokenizer)
    held, names = reference.load(study), catalogue("tinyimagenet").names
    shown = [miniatures.label_of(Image.fromarray(i.permute(1, 2, 0).numpy())) for i in held.images]
    assert len(set(shown)) == 5
    assert torch.equal(held.tokens, backbone.tokenizer([f"a photo of {names[label]}." for label in shown]))

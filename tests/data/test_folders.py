"""Tasks from folders of pictures, as people have them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data import folders, tasks
from lib.data.folders import decode
from lib.data.tasks import Task, TaskError
from lib.settings import ParamsError
from lib.study import params
from tests.support import small_study

NOISE = np.random.default_rng(0).integers(0, 256, (20, 50, 3), dtype=np.uint8)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    small_study.write_pictures(tmp_path / "pictures")
    return tmp_path


def task(home: Path, name: str = "red", **changes: object) -> Task:
    folders.prepare(name, replace(small_study.study().tasks, **changes), 32, home, home / "prepared")
    return tasks.load(home / "prepared")


def test_a_folder_is_a_task(home: Path) -> None:
    made = task(home, "green")
    assert made.name == "green"
    assert made.classes == ["across", "plain sheet", "upright"]  # spaces for underscores
    assert made.templates == small_study.TEMPLATES
    assert made.train.images.shape == (18, 3, 32, 32)
    assert made.train.images.dtype == torch.uint8
    assert made.train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert made.test.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    file = home / "pictures" / "green" / "test" / "plain_sheet" / "2.png"
    assert np.array_equal(made.test.images[4 + 2].permute(1, 2, 0), np.asarray(Image.open(file)))


def test_a_limit_draws_by_the_seed(home: Path) -> None:
    whole = task(home).train
    first, again, other = (task(home, train_per_class=3, seed=seed).train for seed in (0, 0, 1))
    assert first.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    drawn, every = ({picture.numpy().tobytes() for picture in part.images} for part in (first, whole))
    assert len(drawn) == 9
    assert drawn < every
    assert torch.equal(task(home, train_per_class=100).train.images, whole.images)


def test_hidden_files_and_folders_are_ignored(home: Path) -> None:
    train = home / "pictures" / "red" / "train"
    (train / ".ipynb_checkpoints").mkdir()
    (home / "pictures" / ".git").mkdir()
    for name in (".DS_Store", "._0.png"):
        (train / "upright" / name).write_bytes(b"\0")
    assert task(home).train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert folders.task_names(home / "pictures") == ["blue", "green", "red"]


def test_a_study_without_orders_learns_all_its_folders(home: Path) -> None:
    raw = small_study.RAW | {"tasks": small_study.RAW["tasks"] | {"root": str(home / "pictures"), "orders": {}}}
    assert params.parse(raw, "own.yaml").tasks.orders == {"I": ["blue", "green", "red"]}
    (home / "pictures" / "my own").mkdir()
    with pytest.raises(ParamsError, match="own.yaml.*'my own'.*letters"):
        params.parse(raw, "own.yaml")
    shutil.rmtree(home / "pictures")
    with pytest.raises(ParamsError, match=f"own.yaml: {home}/pictures is missing.*<task>"):
        params.parse(raw, "own.yaml")


def test_a_class_folder_without_pictures_is_named(home: Path) -> None:
    folder = home / "pictures" / "red" / "train" / "upright"
    for file in folder.iterdir():
        file.rename(file.with_suffix(".gif"))
    with pytest.raises(TaskError, match=f"{folder} has no picture.*png"):
        task(home)


@pytest.mark.parametrize(
    ("made", "pixel"),
    [
        (Image.new("RGB", (1, 1), (9, 8, 7)), (9, 8, 7)),
        (Image.new("CMYK", (8, 8), (255, 0, 0, 0)), (0, 255, 255)),
        (Image.new("L", (8, 8), 9), (9, 9, 9)),
        (Image.new("LA", (8, 8), (9, 0)), (9, 9, 9)),
        (Image.new("1", (8, 8), 1), (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 0x8000, np.uint16)), (128, 128, 128)),
    ],
    ids=["1 x 1", "CMYK", "grey", "transparent", "black and white", "16 bits"],
)
def test_an_unusual_picture_is_read(tmp_path: Path, made: Image.Image, pixel: tuple[int, int, int]) -> None:
    file = tmp_path / "x.JPG" if made.mode == "CMYK" else tmp_path / "x.PNG"
    made.save(file)
    read = decode(file, 4)
    assert read.shape == (4, 4, 3)
    assert np.abs(read.astype(int) - pixel).max() <= 2


def test_the_first_frame_of_an_animation_and_the_colours_of_a_palette_are_read(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (8, 8), (level, 0, 0)) for level in (200, 20))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    first.quantize().save(tmp_path / "p.png", transparency=bytes(256))
    for name in ("a.png", "p.png"):
        assert (decode(tmp_path / name, 8)[0, 0] == [200, 0, 0]).all()


def test_a_picture_is_scaled_and_its_centre_kept(tmp_path: Path) -> None:
    wide, tall = Image.fromarray(NOISE), Image.fromarray(NOISE).rotate(90, expand=True)
    wide.save(tmp_path / "wide.png")
    tall.save(tmp_path / "tall.png")
    # the shorter side 20 becomes 10, 50 becomes 25; of 25 columns or rows 10 are kept, from (25 - 10) // 2 = 7
    bicubic = Image.Resampling.BICUBIC
    assert np.array_equal(decode(tmp_path / "wide.png", 10), np.asarray(wide.resize((25, 10), bicubic))[:, 7:17])
    assert np.array_equal(decode(tmp_path / "tall.png", 10), np.asarray(tall.resize((10, 25), bicubic))[7:17])


def test_a_jpeg_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    stored, exif = Image.fromarray(NOISE), Image.Exif()
    exif[0x0112] = 6  # the first row as stored is the right side as seen: turn it clockwise
    stored.save(tmp_path / "straight.jpg")
    stored.save(tmp_path / "turned.jpg", exif=exif)
    straight, turned = (decode(tmp_path / f"{name}.jpg", 20) for name in ("straight", "turned"))
    assert np.array_equal(turned, np.rot90(straight, -1))

"""Folders of pictures as people have them: unusual pictures are read, what is hidden is passed over."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data import tasks
from lib.data.folders import decode
from tests.support import small_study
from tests.support.bad_input import classes


@pytest.mark.parametrize(
    ("made", "pixel"),
    [
        (Image.new("RGB", (1, 1), (9, 8, 7)), (9, 8, 7)),
        (Image.new("CMYK", (8, 8), (255, 0, 0, 0)), (0, 255, 255)),
        (Image.new("LA", (8, 8), (9, 0)), (9, 9, 9)),
        (Image.new("1", (8, 8), 1), (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 0x8000, np.uint16)), (128, 128, 128)),
    ],
    ids=["1 x 1", "CMYK", "transparent", "black and white", "16 bits"],
)
def test_an_unusual_picture_is_read(tmp_path: Path, made: Image.Image, pixel: tuple[int, int, int]) -> None:
    file = tmp_path / "x.JPG" if made.mode == "CMYK" else tmp_path / "x.PNG"
    made.save(file)
    found = decode(file, 4)
    assert found.shape == (4, 4, 3)
    assert np.abs(found.astype(int) - pixel).max() <= 2


def test_of_an_animated_picture_the_first_frame_is_read_and_of_a_palette_the_colours(tmp_path: Path) -> None:
    first, then = (Image.new("RGB", (8, 8), (level, 0, 0)) for level in (200, 20))
    first.save(tmp_path / "a.png", save_all=True, append_images=[then])
    assert (decode(tmp_path / "a.png", 8)[0, 0] == [200, 0, 0]).all()
    first.quantize().save(tmp_path / "p.png", transparency=bytes(256))
    assert (decode(tmp_path / "p.png", 8)[0, 0] == [200, 0, 0]).all()


def test_what_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(tasks.TaskError, match=r"a\.png is no readable picture .*Permission denied.*remove it"):
        decode(tmp_path / "a.png", 8)


def test_hidden_files_and_folders_are_no_pictures_and_no_classes(tmp_path: Path) -> None:
    small_study.write_pictures(tmp_path)
    train = tmp_path / "red" / "train"
    (train / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "._0.png"):
        (train / "upright" / name).write_bytes(b"\0")
    wanted = small_study.study({"tasks.root": str(tmp_path)}).tasks
    assert tasks.make("red", wanted, 32).train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6


def test_class_names_in_any_script_are_told_apart(tmp_path: Path) -> None:
    small_study.write_pictures(tmp_path)
    classes("\u732b", "\u72ac", "\u043a\u043e\u0442")(tmp_path / "red")  # cat, dog; and cat again, in Russian
    wanted = small_study.study({"tasks.root": str(tmp_path)}).tasks
    made = tasks.make("red", wanted, 32)
    tasks.check_prompts(made, small_study.backbone().tokenizer)
    assert len(made.classes) == 6

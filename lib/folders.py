"""Pictures in folders, `<class>/*.png` or .jpg, and how a picture becomes a square of pixels."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ENDINGS = (".png", ".jpg", ".jpeg")


class TaskError(ValueError):
    """A task that cannot be used; the message names the folder or file and what is expected."""


def class_folders(split: Path) -> list[Path]:
    """The class folders of a split, by name. Raises TaskError if there are fewer than two."""
    if not split.is_dir():
        raise TaskError(f"{split} is missing; a task is a folder <task>/{{train,test}}/<class>/*.png or .jpg")
    folders = sorted(p for p in split.iterdir() if p.is_dir())
    if len(folders) < 2:
        raise TaskError(f"{split} has {len(folders)} class folders; at least 2 are needed")
    return folders


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a class folder, by name. Raises TaskError if there is none."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS)
    if not files:
        raise TaskError(f"{folder} has no picture ({', '.join(ENDINGS)}); add some or remove the folder")
    return files


def decode(file: Path, size: int) -> np.ndarray:
    """A picture file, turned as its EXIF says, as (size, size, 3) uint8: shorter side to `size`, then the centre."""
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise TaskError(f"{file} is no readable picture ({error}); replace or remove it") from error
    return fitted(picture, size)


def fitted(picture: Image.Image, size: int) -> np.ndarray:
    """An RGB picture as (size, size, 3) uint8: its shorter side to `size`, then the centre."""
    zoom = size / min(picture.size)
    wide, high = (max(size, round(side * zoom)) for side in picture.size)
    left, top = (wide - size) // 2, (high - size) // 2
    scaled = picture.resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))

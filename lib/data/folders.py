"""Pictures in folders, `<class>/*.png` or .jpg, and how a picture becomes a square of pixels.

What is hidden (its name begins with a dot) is no class and no picture. Of an animated picture the first frame counts,
of a transparent one the colours; 16-bit grey is brought to 8 bits.
"""

import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ENDINGS = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")  # whatever its name is; Pillow would start other programs for some others
LONGEST = 100  # times the shorter side: what is longer would need gigabytes before its centre is cut out


class TaskError(ValueError):
    """A task that cannot be used; the message names the folder or file and what is expected."""


def class_folders(split: Path) -> list[Path]:
    """The class folders of a split, by name. Raises TaskError if there are fewer than two."""
    if not split.is_dir():
        raise TaskError(f"{split} is missing; a task is a folder <task>/{{train,test}}/<class>/*.png or .jpg")
    folders = sorted(p for p in split.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise TaskError(f"{split} has {len(folders)} class folders; at least 2 are needed")
    return folders


def class_names(root: Path, folders: list[str]) -> list[str]:
    """Folders' names as prompts have them: with blanks for underscores. Raises TaskError where they do not differ."""
    known: dict[str, str] = {}
    for folder in folders:
        plain = unicodedata.normalize("NFC", folder).casefold().replace("_", " ").replace("-", " ")
        plain = " ".join(plain.split())
        if not plain:
            raise TaskError(f"{root} has a class folder {folder!r} without a name; give it one, for its prompts")
        if known.setdefault(plain, folder) != folder:
            raise TaskError(f"{root}: classes {known[plain]!r} and {folder!r} make the same prompts; rename one")
    return [folder.replace("_", " ") for folder in folders]


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a class folder, by name. Raises TaskError if there is none."""
    shown = (p for p in folder.iterdir() if not p.name.startswith("."))
    files = sorted(p for p in shown if p.suffix.lower() in ENDINGS)
    if not files:
        raise TaskError(f"{folder} has no picture ({', '.join(ENDINGS)}); add some or remove the folder")
    return files


def decode(file: Path, size: int) -> np.ndarray:
    """A picture file, turned as its EXIF says, as (size, size, 3) uint8: shorter side to `size`, then the centre.

    Raises TaskError, naming the file, for what is no PNG or JPEG, is damaged, or has far too many pixels.
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):  # 16-bit grey; Pillow would cut it off at 255
                picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
            if picture.mode == "P":  # converted at once, transparency draws a warning
                picture = picture.convert("RGBA")
            picture = picture.convert("RGB")
    except Exception as error:  # a damaged picture raises whatever its decoder met
        raise TaskError(f"{file} is no readable picture in PNG or JPEG ({error}); replace or remove it") from error
    if max(picture.size) > LONGEST * min(picture.size):
        wide, high = picture.size
        raise TaskError(f"{file} has {wide} x {high} pixels, far too long for a square; crop or remove it")
    return fitted(picture, size)


def fitted(picture: Image.Image, size: int) -> np.ndarray:
    """An RGB picture as (size, size, 3) uint8: its shorter side to `size`, then the centre."""
    zoom = size / min(picture.size)
    wide, high = (max(size, round(side * zoom)) for side in picture.size)
    left, top = (wide - size) // 2, (high - size) // 2
    scaled = picture.resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))

"""Tasks from anybody's pictures: <root>/<task>/{train,test}/<class>/*.png or .jpg.

A file or folder whose name begins with a dot is ignored. An animated picture counts as its first frame, a transparent
one as its colours, and 16-bit grey is reduced to 8 bits.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from lib.data.reference import ReferenceSettings, choose
from lib.data.tasks import SPLITS, Pictures, Task, TaskError, TaskSettings, channels_first, save

ENDINGS = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")  # whatever a file is called: for some other formats Pillow would start a program
LONGEST = 100  # longer side / shorter side: a longer picture would need gigabytes before its centre is cut out
PICTURES = "<class>/*.png or .jpg"


def prepare(name: str, settings: TaskSettings, size: int, root: Path, file: Path) -> None:
    """Reads a task's pictures and writes the prepared task."""
    save(make(name, settings, size, root), file)


def reference(settings: ReferenceSettings, template: str, size: int, root: Path) -> tuple[np.ndarray, list[str]]:
    """Pictures (N, H, W, 3) and captions drawn from <root>/<class>/*.png or .jpg."""
    home = root / settings.root
    files = [file for folder in class_folders(home, f"{home}/{PICTURES}") for file in picture_files(folder)]
    chosen = [files[i] for i in choose(settings, len(files))]
    captions = [template.format(file.parent.name.replace("_", " ")) for file in chosen]
    return np.stack([decode(file, size) for file in chosen]), captions


def task_names(home: Path) -> list[str]:
    """The tasks of a folder in alphabetical order. Raises TaskError if there is none."""
    names = [folder.name for folder in _subfolders(home)] if home.is_dir() else []
    if not names:
        raise TaskError(f"{home} has no task; put your pictures at {home}/<task>/{{train,test}}/{PICTURES}")
    return names


def make(name: str, settings: TaskSettings, size: int, root: Path) -> Task:
    """The task of a folder, at size x size pixels. Raises TaskError for folders or pictures that cannot be used."""
    home = root / settings.root / name
    layout = f"{home}/{{train,test}}/{PICTURES}"
    folders = {split: class_folders(home / split, layout) for split in SPLITS}
    train_names, test_names = ([folder.name for folder in folders[split]] for split in SPLITS)
    if train_names != test_names:
        odd = ", ".join(sorted(set(train_names) ^ set(test_names)))
        raise TaskError(f"{home}: train and test must have the same classes; only in one of them: {odd}")
    if not settings.templates:
        raise TaskError('params tasks.templates is empty; a folder study needs prompts, such as "a photo of a {}."')
    train = _read(folders["train"], settings.train_per_class, size, settings.seed)
    test = _read(folders["test"], settings.test_per_class, size, settings.seed)
    return Task(name, [folder.replace("_", " ") for folder in train_names], settings.templates, train, test)


def _read(folders: list[Path], most: int, size: int, seed: int) -> Pictures:
    """The pictures of the class folders: at most `most` of each class, drawn by the seed, or all if `most` is 0."""
    images, labels = [], []
    for label, folder in enumerate(folders):
        files = picture_files(folder)
        picked = np.random.default_rng([seed, label]).permutation(len(files))[: most or None]
        images += [decode(files[i], size) for i in sorted(picked)]
        labels += [label] * len(picked)
    return Pictures(channels_first(np.stack(images)), torch.tensor(labels))


def _subfolders(home: Path) -> list[Path]:
    return sorted(path for path in home.iterdir() if path.is_dir() and not path.name.startswith("."))


def class_folders(home: Path, layout: str) -> list[Path]:
    """The class folders of a folder, by name. Raises TaskError if there are fewer than two."""
    if not home.is_dir():
        raise TaskError(f"{home} is missing; put the pictures at {layout}")
    folders = _subfolders(home)
    if len(folders) < 2:
        raise TaskError(f"{home} has {len(folders)} class folders; at least 2 are needed: {layout}")
    return folders


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a class folder, by name. Raises TaskError if there is none."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))
    if not files:
        raise TaskError(f"{folder} has no picture ({', '.join(ENDINGS)}); add some or remove the folder")
    return files


def decode(file: Path, size: int) -> np.ndarray:
    """A picture file as (size, size, 3) uint8, turned as its EXIF data says and fitted to the square.

    Raises TaskError, which names the file, if it is not a PNG or JPEG, is damaged, or has far too many pixels.
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
                picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
            if picture.mode == "P":  # Pillow warns if a palette with transparency becomes RGB in one step
                picture = picture.convert("RGBA")
            picture = picture.convert("RGB")
    except Exception as error:  # decoders raise errors of many types for damaged files
        raise TaskError(f"{file} is no readable picture in PNG or JPEG ({error}); replace or remove it") from error
    if max(picture.size) > LONGEST * min(picture.size):
        raise TaskError(
            f"{file} has {picture.width} x {picture.height} pixels, far too long for a square; crop or remove it"
        )
    return fitted(picture, size)


def fitted(picture: Image.Image, size: int) -> np.ndarray:
    """An RGB picture as (size, size, 3) uint8: its shorter side is scaled to `size`, then its centre is cut out."""
    zoom = size / min(picture.size)
    wide, high = (max(size, round(side * zoom)) for side in picture.size)
    left, top = (wide - size) // 2, (high - size) // 2
    scaled = picture.resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))

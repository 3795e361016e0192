"""Where tasks come from (SOURCES), and the source `folder`: <root>/<task>/{train,test}/<class>/*.png or .jpg.

A source is a module, imported only when its pictures are needed. It has `prepare(name, settings, size, root, file)`,
which writes a task by lib.data.tasks.save, and `reference(settings, template, size, root)`, which gives pictures
(N, H, W, 3) uint8 of a reference set and their captions (by `template` if they have none). size: pixels a side; root:
where relative paths in the settings start. Both raise TaskError for what cannot be used. A source that has certain
tasks and no others lists them in NAMES.

In folders a file or folder whose name begins with a dot is ignored. An animated picture counts as its first frame, a
transparent one as its colours, and 16-bit grey is reduced to 8 bits.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps

from lib.data.task_settings import ReferenceSettings, TaskSettings
from lib.data.tasks import SPLITS, Pictures, Task, TaskError, channels_first, save

SOURCES = {
    "mini": "tools.miniworld.mini_tasks",
    "folder": "lib.data.folders",
    "datasets": "tools.datasets.decode",
    "hub": "tools.datasets.hub_sets",
}
ENDINGS = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")  # whatever a file is called: for some other formats Pillow would start a program
LONGEST = 100  # longer side / shorter side: a longer picture would need gigabytes before its centre is cut out
PICTURES = "<class>/*.png or .jpg"


def source(name: str) -> ModuleType:
    """The module of a source."""
    return import_module(SOURCES[name])


def prepare(name: str, settings: TaskSettings, size: int, root: Path, file: Path) -> None:
    """Writes the task of a folder. Raises TaskError for folders or pictures that cannot be used."""
    home = root / settings.root / name
    folders = [subfolders(home / split, 2, f"{home}/{{train,test}}/{PICTURES}") for split in SPLITS]
    classes, others = ([folder.name for folder in split] for split in folders)
    if classes != others:
        odd = ", ".join(sorted(set(classes) ^ set(others)))
        raise TaskError(f"{home}: train and test must have the same classes; only in one of them: {odd}")
    if not settings.templates:
        raise TaskError('params tasks.templates is empty; a folder study needs prompts, such as "a photo of a {}."')
    each_split = zip(folders, settings.per_class(name), strict=True)
    train, test = (_read(*each, size, settings.seed) for each in each_split)
    save(Task(name, [folder.replace("_", " ") for folder in classes], settings.templates, train, test), file)


def reference(settings: ReferenceSettings, template: str, size: int, root: Path) -> tuple[np.ndarray, list[str]]:
    """Pictures (N, H, W, 3) and captions drawn from <root>/<class>/*.png or .jpg."""
    home = root / settings.root
    files = [file for folder in subfolders(home, 2, f"{home}/{PICTURES}") for file in picture_files(folder)]
    chosen = [files[i] for i in settings.choose(len(files))]
    captions = [template.format(file.parent.name.replace("_", " ")) for file in chosen]
    return np.stack([decode(file, size) for file in chosen]), captions


def task_names(home: Path) -> list[str]:
    """The tasks of a folder in alphabetical order. Raises TaskError if there is none."""
    return [folder.name for folder in subfolders(home, 1, f"{home}/<task>/{{train,test}}/{PICTURES}")]


def subfolders(home: Path, least: int, layout: str) -> list[Path]:
    """The folders of a folder, by name. Raises TaskError, which shows the layout, if there are fewer than `least`."""
    if not home.is_dir():
        raise TaskError(f"{home} is missing; put the pictures at {layout}")
    folders = sorted(path for path in home.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < least:
        raise TaskError(f"{home} has {len(folders)} folders; at least {least} must be there: {layout}")
    return folders


def _read(folders: list[Path], most: int, size: int, seed: int) -> Pictures:
    """The pictures of the class folders: at most `most` of each class, drawn by the seed, or all if `most` is 0."""
    images, labels = [], []
    for label, folder in enumerate(folders):
        files = picture_files(folder)
        picked = np.random.default_rng([seed, label]).permutation(len(files))[: most or None]
        images += [decode(files[i], size) for i in sorted(picked)]
        labels += [label] * len(picked)
    return Pictures(channels_first(np.stack(images)), torch.tensor(labels))


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a class folder, by name. Raises TaskError if there is none."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))
    if not files:
        raise TaskError(f"{folder} has no picture ({', '.join(ENDINGS)}); add some or remove the folder")
    return files


def decode(file: Path, size: int, content: BinaryIO | None = None) -> np.ndarray:
    """A picture file as (size, size, 3) uint8, turned as its EXIF data says and fitted to the square.

    content: the picture, if it is not the file itself. Raises TaskError, which names the file, if it is not a PNG or
    JPEG, is damaged, or has far too many pixels.
    """
    try:
        with Image.open(content or file, formats=FORMATS) as opened:
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

"""CoOp's splits of the data sets (Zhou et al., IJCV 2022), which X-TAIL uses: one JSON file for each data set."""

import gzip
import zlib
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from tools.datasets.catalogue import DataError
from tools.datasets.splits import Split

# for each data set: the name in the file's name, and the folder that the paths in the file start from
FILES = {
    "caltech101": ("Caltech101", "caltech101/101_ObjectCategories"),
    "dtd": ("DescribableTextures", "dtd/dtd/images"),
    "eurosat": ("EuroSAT", "eurosat/2750"),
    "flowers": ("OxfordFlowers", "flowers-102/jpg"),
    "food": ("Food101", "food-101/images"),
    "pets": ("OxfordPets", "oxford-iiit-pet/images"),
    "cars": ("StanfordCars", "stanford_cars"),
    "sun397": ("SUN397", "SUN397"),
}
Row = tuple[str, int, str]  # path, label, class name


@dataclass(frozen=True)
class _Content:
    """What a file holds."""

    train: list[Row]
    val: list[Row]
    test: list[Row]


def open_coop(name: str, root: Path) -> dict[str, Split]:
    """CoOp's splits of a data set below `root`; the files lie in `coop_splits`, packed (.gz) or not."""
    published, folder = FILES[name]
    files = [root / "coop_splits" / f"split_zhou_{published}.json{end}" for end in ("", ".gz")]
    return read(next((file for file in files if file.exists()), files[0]), root / folder)


def read(file: Path, folder: Path) -> dict[str, Split]:
    """The splits train, val and test of a file. Labels and class names are the file's own, not the catalogue's.

    folder: where the paths in the file start. Raises DataError if the file or the folder is missing, a row is invalid,
    a path leaves the folder, or the labels are not those of one list of classes.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is missing: the folder of pictures that the paths in {file} start from")
    parts, names = vars(_content(file)), {}
    for path, label, name in (row for rows in parts.values() for row in rows):
        if path.startswith("/") or ".." in path.split("/"):
            raise DataError(f"{file}: {path!r} leaves the folder of pictures; get the file again")
        if names.setdefault(label, name) != name:
            raise DataError(f"{file}: label {label} is {names[label]!r}, but {name!r} for {path}; get the file again")
    if sorted(names) != list(range(len(names))):
        raise DataError(f"{file}: the labels of its {len(names)} classes are not 0 to {len(names) - 1}")
    classes = [names[label] for label in range(len(names))]
    return {
        part: Split(f"{file.name} {part}", classes, [row[1] for row in rows], [folder / row[0] for row in rows])
        for part, rows in parts.items()
    }


def _content(file: Path) -> _Content:
    try:
        raw = file.read_bytes()
        text = gzip.decompress(raw) if file.suffix == ".gz" else raw
        return TypeAdapter(_Content).validate_json(text, strict=True)
    except FileNotFoundError:
        raise DataError(f"{file} is missing; CoOp publishes it: https://github.com/KaiyangZhou/CoOp") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{file} is no file of CoOp's splits: {place}: {first['msg']}; get it again") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}); get it again") from error

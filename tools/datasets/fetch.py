"""The stage `data`: puts a study's CLIP and data sets on disk, and checks them before anything is computed.

`python -m tools.datasets.fetch PARAMS` first lists what must be placed by hand, then downloads and unpacks the rest.
What is complete is left alone, and a download that was cut off goes on. Tasks of other sources (mini, folder) need
nothing.
"""

import os
import shutil
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from lib.clip.backbone import load_clip
from lib.files import DiskError
from lib.study import params
from lib.study.paths import DATA, ROOT
from lib.study.results import write_json
from tools.datasets.archive import unpack
from tools.datasets.catalogue import DataError, File, catalogue
from tools.datasets.download import download
from tools.datasets.splits import check

DOWNLOADS = "downloads"  # below the root: archives, until their data set is complete


def fetch(name: str, root: Path) -> None:
    """Downloads and unpacks a data set. Raises DataError or DiskError if it is not complete afterwards."""
    files = catalogue(name).files
    print(f"{name}: fetching {len(files)} files", flush=True)
    for file in files:
        archive = _archive(file, root)
        download(file.url, archive, file.checksum)
        _unpack_into(root / file.to, archive, file)
    check(name, root)
    for file in files:
        _archive(file, root).unlink(missing_ok=True)


def _archive(file: File, root: Path) -> Path:
    return root / DOWNLOADS / PurePosixPath(urlsplit(file.url).path).name


def _unpack_into(target: Path, archive: Path, file: File) -> None:
    """Unpacks aside, then moves all into the target; files of the same name in the target are replaced."""
    aside = archive.with_name(f"{archive.name}.unpacked")
    shutil.rmtree(aside, ignore_errors=True)  # left by a call that was killed
    unpack(archive, aside / "content", file.form)
    if file.inner:
        unpack(aside / "content" / file.inner, aside / "inner", "tar")
    shutil.copytree(aside / ("inner" if file.inner else "content"), target, copy_function=os.replace, dirs_exist_ok=True)
    shutil.rmtree(aside)


def _wanted(study: params.Study) -> dict[str, Path]:
    """The data sets of the tasks and of the reference set, each with its root."""
    wanted = {}
    if study.tasks.source == "datasets":
        first_order = next(iter(study.tasks.orders.values()))
        wanted |= dict.fromkeys(first_order, ROOT / study.tasks.root)
    if study.reference is not None and study.reference.source == "datasets":
        wanted[study.reference.name] = ROOT / study.reference.root
    return wanted


def _get_all(wanted: dict[str, Path]) -> list[str]:
    """Fetches what can be downloaded. Returns the data sets that are still incomplete; prints what each lacks."""
    missing, incomplete = [], []
    for name, root in wanted.items():
        try:
            check(name, root)
        except DataError as error:
            if catalogue(name).files:
                missing.append(name)
            else:
                incomplete.append(name)
                _print_error(error)
    for name in missing:
        try:
            fetch(name, wanted[name])
        except (DataError, DiskError) as error:
            incomplete.append(name)
            _print_error(error)
    return incomplete


def _print_error(error: object) -> None:
    print(f"error: {error}", file=sys.stderr, flush=True)


def main(file: str) -> int:
    """Fetches a study's data sets and its CLIP, and records both in data/<study>; returns the exit status."""
    study = params.load(file)
    wanted = _wanted(study)
    incomplete = _get_all(wanted)
    try:
        clip = load_clip(study.backbone.model, study.backbone.pretrained)
    except (ConnectionError, ValueError) as error:
        _print_error(error)
        return 1
    write_json(DATA / study.study / "backbone.json", {"model": clip.name, "fingerprint": clip.fingerprint})
    if incomplete:
        _print_error(f"these data sets are not complete: {', '.join(incomplete)}; the others are")
        return 1
    entries = {name: catalogue(name) for name in wanted}
    sizes = {name: {"classes": len(e.classes), "train": e.train, "test": e.test} for name, e in entries.items()}
    write_json(DATA / study.study / "data.json", {"source": study.tasks.source, "datasets": sizes})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""The stage `data`: has a study's CLIP and every data set on disk, whole, before anything is computed.

`python -m tools.datasets.obtain PARAMS` fetches and unpacks what can be downloaded, checks pictures and classes of all against the
catalogue, and ends with what is still to be placed by hand, all of it at once. What is there and whole is left alone;
what was cut off goes on. Pictures of other sources (mini, folder) need nothing.
"""

import os
import shutil
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from lib.clip import load_clip
from lib.study import params, plan
from lib.study.paths import DATA, ROOT
from lib.study.results import write_json
from tools.datasets.archive import ArchiveError, gunzip, unpack
from tools.datasets.catalogue import DataError, File, catalogue, check
from tools.datasets.download import DownloadError, fetch

DOWNLOADS = "downloads"  # below the root: archives until their data set is whole


def obtain(name: str, root: Path) -> None:
    """Downloads a data set unless it is whole. Raises an error that says what to do if it is not whole then."""
    entry = catalogue(name)
    try:
        check(name, root)
        return
    except DataError as missing:
        if not entry.files:
            raise
        print(f"{missing}\n{name}: getting {len(entry.files)} files", flush=True)
    for file in entry.files:
        _get(file, root)
    check(name, root)
    for file in entry.files:
        _archive(file, root).unlink(missing_ok=True)


def _archive(file: File, root: Path) -> Path:
    return root / DOWNLOADS / PurePosixPath(urlsplit(file.url).path).name


def _get(file: File, root: Path) -> None:
    """Fetches one file and puts its content where the data set's reader looks for it."""
    archive, target = _archive(file, root), root / file.to
    fetch(file.url, archive, file.checksum, root)
    if file.form == "plain":
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive, target / archive.name)
    elif file.form == "gz":
        target.mkdir(parents=True, exist_ok=True)
        gunzip(archive, target / archive.name.removesuffix(".gz"))
    else:
        apart = archive.with_name(f"{archive.name}.unpacked")
        shutil.rmtree(apart, ignore_errors=True)  # of a call that was killed
        unpack(archive, apart)
        if file.inner:
            unpack(apart / file.inner, apart / "inner")
        join(apart / "inner" if file.inner else apart, target)
        shutil.rmtree(apart)


def join(folder: Path, target: Path) -> None:
    """Moves what is in a folder into another, whose own files of the same name give way."""
    target.mkdir(parents=True, exist_ok=True)
    for item in sorted(folder.iterdir()):
        if item.is_dir() and (target / item.name).is_dir():
            join(item, target / item.name)
        else:
            os.replace(item, target / item.name)


def _wanted(study: params.Study) -> dict[str, str]:
    """The data sets of the tasks and of the reference set, each with its root."""
    found = {}
    if study.tasks.source == "datasets":
        found |= dict.fromkeys(study.tasks.orders[plan.main_order(study)], study.tasks.root)
    if study.reference is not None and study.reference.source == "datasets":
        found[study.reference.name] = study.reference.root
    return found


def main(file: str) -> int:
    """Obtains a study's data sets and its CLIP, and notes both in data/<study>; returns the exit status."""
    study = params.load(file)
    found, faults = {}, []
    for name, root in _wanted(study).items():
        try:
            obtain(name, ROOT / root)
        except (DataError, DownloadError, ArchiveError) as error:
            faults.append(str(error))
            continue
        entry = catalogue(name)
        found[name] = {"classes": len(entry.classes), "train": entry.train, "test": entry.test}
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    try:
        clip = load_clip(study.backbone.model, study.backbone.pretrained)
        about = {"model": clip.name, "fingerprint": clip.fingerprint}
        write_json(DATA / study.study / "backbone.json", about)
    except (ConnectionError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if faults:
        print(f"error: {len(faults)} data sets are not whole; the rest is there", file=sys.stderr)
        return 1
    write_json(DATA / study.study / "data.json", {"source": study.tasks.source, "datasets": found})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

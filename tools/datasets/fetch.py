"""The stage `data`: puts a study's CLIP and data sets on disk, and checks them before anything is computed.

`python -m tools.datasets.fetch PARAMS` first says all that must be placed by hand, then downloads and unpacks the rest.
What is complete is left alone; a download that was cut off goes on. Tasks of other sources (mini, folder) need nothing.
"""

import os
import shutil
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from lib.clip import load_clip
from lib.data.tasks import TaskError
from lib.files import write_json
from lib.study import params
from lib.study.studies import ROOT
from tools.datasets import hub_sets
from tools.datasets.archive import unpack
from tools.datasets.catalogue import DataError, File, catalogue
from tools.datasets.download import download
from tools.datasets.hub_copies import fetch_copy
from tools.datasets.splits import check

DOWNLOADS = "downloads"  # below the root: archives, until their data set is complete


def fetch(name: str, root: Path) -> None:
    """Downloads a data set that is not complete yet. Raises DataError, or OSError for the disk, if that fails."""
    entry, aside = catalogue(name), root / DOWNLOADS / name
    try:
        check(name, root)
        return
    except DataError:
        if not entry.fetched:
            raise
    if entry.copy:
        print(f"{name}: fetching {entry.copy.repo}, {entry.copy.gigabytes} GB, and writing its pictures", flush=True)
        fetch_copy(name, entry.copy, root, aside)
        check(name, root)
        shutil.rmtree(aside)
        return
    files = entry.files
    print(f"{name}: fetching {len(files)} files", flush=True)
    archives = [root / DOWNLOADS / PurePosixPath(urlsplit(file.url).path).name for file in files]
    for file, archive in zip(files, archives, strict=True):
        download(file.url, archive, file.checksum)
        unpack_into(root / file.to, archive, file)
    check(name, root)
    for archive in archives:
        archive.unlink()


def unpack_into(target: Path, archive: Path, file: File) -> None:
    """Unpacks a file aside, then moves its content into the target, where files of the same name are replaced."""
    aside = archive.with_name(f"{archive.name}.unpacked")
    shutil.rmtree(aside, ignore_errors=True)  # left by a call that was killed
    content = aside / "content"
    try:
        unpack(archive, content, file.form)
        if file.inner:
            archive, content = content / file.inner, aside / "inner"
            unpack(archive, content, "tar")
        shutil.copytree(content, target, copy_function=os.replace, dirs_exist_ok=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def wanted_by(study: params.Study) -> dict[str, str]:
    """The data sets of the tasks and of the reference set, each with its folder."""
    first_order = next(iter(study.tasks.orders.values()))
    wanted = dict.fromkeys(first_order, study.tasks.root) if study.tasks.source == "datasets" else {}
    if study.reference is not None and study.reference.source == "datasets":
        wanted[study.reference.name] = study.reference.root
    return wanted


def main(file: str, root: Path = ROOT) -> int:
    """Fetches a study's data sets and its CLIP, and records both in data/<study>; returns the exit status."""
    study = params.load(file)
    folder, wanted, incomplete, sizes = root / "data" / study.study, wanted_by(study), [], {}
    for name in sorted(wanted, key=lambda name: catalogue(name).fetched):  # those to place by hand come first
        try:
            fetch(name, root / wanted[name])
        except (DataError, OSError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            incomplete.append(name)
    for name, about in study.tasks.sets.items():
        try:
            for split in (about.train, about.test):
                hub_sets.fetch(about, split)
        except TaskError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            incomplete.append(name)
    try:
        clip = load_clip(study.backbone.model, study.backbone.pretrained, root)
    except (ConnectionError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(folder / "backbone.json", {"model": clip.name, "fingerprint": clip.fingerprint})
    if incomplete:
        print(f"error: these data sets are not complete: {', '.join(incomplete)}", file=sys.stderr)
        return 1
    for name in wanted:
        entry = catalogue(name)
        sizes[name] = {"classes": len(entry.classes), "train": entry.train, "test": entry.test}
    write_json(folder / "data.json", {"source": study.tasks.source, "datasets": sizes})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

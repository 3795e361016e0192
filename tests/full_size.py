"""One step a task at full size: `python tests/full_size.py FOLDER` from the project's root, on a CPU or GPU.

FOLDER has <task>/{train,test}/<class>/*.png or .jpg, as in the study `folder`. A ViT-B/16 at random weights learns each
task in one step with 22 experts, 2 of them chosen, and answers; what is printed are shapes, seconds and memory. Nothing
is downloaded, nothing is written outside a temporary folder.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from lib.clip import compute, load_clip
from lib.data import folders, tasks
from lib.data import frozen as features
from lib.methods import method_class
from lib.methods.base import Lesson
from lib.study import params
from lib.study.paths import ROOT
from lib.study.results import peak_memory_mb
from lib.study.train import learn_task


def study(root: Path, names: list[str]) -> params.Study:
    """The study mtil with pictures of folders, a few of each class, one step a task, and random weights."""
    made = params.load("studies/mtil.yaml")
    folders = {"source": "folder", "root": str(root), "train_per_class": 2, "test_per_class": 1}
    wanted = replace(made.tasks, **folders, templates=["a photo of a {}."], orders={"I": names})
    train, selector = replace(made.train, steps=1, warmup=0), replace(made.selector, steps=20)
    backbone = replace(made.backbone, pretrained="")
    return replace(made, tasks=wanted, train=train, selector=selector, backbone=backbone, reference=None)


def main(root: Path) -> None:
    """Learns every task of a folder and says what it took."""
    names = sorted(p.name for p in root.iterdir() if (p / "train").is_dir())
    made = study(root, names)
    device = compute.begin(made.compute)
    backbone = load_clip(made.backbone.model, made.backbone.pretrained).to(device)
    pupil = method_class("moe_adapters")(backbone, made.methods["moe_adapters"], made)
    print(f"{made.backbone.model} on {device}, {pupil.size()['trainable_parameters']:,} parameters to train")
    with tempfile.TemporaryDirectory() as place:
        for number, name in enumerate(names):
            file = Path(place) / f"{name}.safetensors"
            folders.prepare(name, made.tasks, backbone.image_size, ROOT, file)
            task, began = tasks.load(file), time.monotonic()
            known = features.compute(backbone, task, made.selector)
            asked = time.monotonic()
            (loss,) = learn_task(pupil, Lesson(task, number, known, [0, number]), made.train, made.compute)
            learned = time.monotonic()
            found = pupil.predict(task, known, number).classes["sample"]
            assert len(found) == len(task.test)
            spent = (asked - began, learned - asked, time.monotonic() - learned)
            print(
                f"{name}: {tuple(task.train.images.shape)} + {len(task.test)} pictures, {len(task.classes)} classes, "
                f"loss {loss:.3f}; features {spent[0]:.1f} s, step and selector {spent[1]:.1f} s, "
                f"answers {spent[2]:.1f} s; peak {compute.peak_gpu_mb() or peak_memory_mb():.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if Path(sys.argv[1]).is_absolute() else ROOT / sys.argv[1])

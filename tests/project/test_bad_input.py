"""Bad input of every kind: refused before anything is learned, by a message that names the thing and the cure.

A line of the table: what is wrong, who makes it and meets it (tests/support/bad_input.py), and words of the message.
"""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from lib.clip import load_clip
from tests.support import bad_input as bad
from tests.support.bad_input import (
    GONE,
    Maker,
    classes,
    given,
    number,
    picture,
    prepared,
    replaced,
    result,
    setting,
    spoilt,
    stored,
    task,
)

NAN = float("nan")
RUN = {"seeds": [0], "set": {}}
Table = dict[str, tuple[Maker, list[str]]]
PARAMS: Table = {
    "no YAML": (given("study: ["), ["not valid YAML", "line 1"]),
    "no text": (given(b"\xff\xfe\x00"), ["not valid YAML", "decode"]),
    "nested without end": (given("[" * 5000), ["not valid YAML", "nested"]),
    "an alias inside what it names": (given("study: &a [*a]"), ["not valid YAML", "alias"]),
    "a date that does not exist": (given("study: 2001-99-99"), ["not valid YAML", "month"]),
    "a key twice": (given("study: a\nstudy: b\n"), ["study given twice"]),
    "nothing": (given(""), ["mapping"]),
    "a list": (given("- 1\n"), ["mapping"]),
    "a number for a key": (given("1: 2\n"), ["unknown key 1"]),
    "an unknown key": (number("train.stepz", 5), ["unknown key train.stepz", "steps, batch"]),
    "an unknown section": (number("colour", "red"), ["unknown key colour", "backbone, tasks"]),
    "a missing key": (number("train.steps", GONE), ["missing key train.steps"]),
    "a missing section": (number("backbone", GONE), ["missing key backbone"]),
    "a section that is none": (number("pretrain", 7), ["pretrain is 7"]),
    "text for a number": (number("train.steps", "many"), ["train.steps is 'many'", "integer"]),
    "a fraction of a step": (number("train.steps", 1.5), ["train.steps is 1.5", "integer"]),
    "a number for yes": (number("runs.finetune.by_task", 1), ["by_task is 1", "boolean"]),
    "no steps": (number("train.steps", 0), ["train.steps and train.epochs", "give one"]),
    "steps below 0": (number("train.steps", -1), ["train.steps is -1"]),
    "a batch of nothing": (number("train.batch", 0), ["train.batch is 0"]),
    "a warm-up that does not end": (number("train.warmup", 999), ["train.warmup is 999", "0 to 150"]),
    "a crop of nothing": (number("train.crop", 0.0), ["train.crop is 0.0"]),
    "a crop of more than all": (number("train.crop", 1.1), ["train.crop is 1.1"]),
    "smoothing above 1": (number("train.smoothing", 1.5), ["train.smoothing is 1.5"]),
    "a rate that is not finite": (number("selector.lr", NAN), ["selector.lr is nan"]),
    "a rate below 0": (number("selector.lr", -0.1), ["selector.lr is -0.1"]),
    "a number of 400 digits": (number("tasks.seed", 10**400), ["tasks.seed is 1000"]),
    "a quantile above 1": (number("selector.threshold", 1.2), ["selector.threshold is 1.2"]),
    "a reference that is not there": (
        number("selector.reference", True, ("reference", None)),
        ["selector.reference", "`reference:`"],
    ),
    "an unknown source": (number("tasks.source", "web"), ["tasks.source is 'web'", "mini"]),
    "an unknown device": (number("compute.device", "tpu"), ["compute.device is 'tpu'", "cuda"]),
    "a switch that is gone": (number("compute.compile", True), ["unknown key compute.compile", "threads"]),
    "no order": (number("tasks.orders", {}), ["tasks.orders is empty"]),
    "an empty order": (number("tasks.orders.I", []), ["tasks.orders.I is []"]),
    "an order with a task twice": (number("tasks.orders.I", ["a", "b", "a"]), ["tasks.orders.I", "each once"]),
    "a task that is a path": (number("tasks.orders.I", ["../a"]), ["tasks.orders.I.0 is '../a'"]),
    "a study that is a path": (number("study", "a/b"), ["study is 'a/b'"]),
    "a template without a place": (number("tasks.templates", ["a cat"]), ["tasks.templates.0", "{}"]),
    "a template with more braces": (number("tasks.templates", ["{} {x}"]), ["tasks.templates.0", "braces"]),
    "a seed twice": (number("runs.finetune.seeds", [1, 1]), ["runs.finetune.seeds is [1, 1]"]),
    "no seed": (number("runs.finetune.seeds", []), ["runs.finetune.seeds is []"]),
    "a run of no method": (number("runs.magic", RUN), ["'magic'", "zero_shot"]),
    "a run without a name": (number("runs.+mine", RUN), ["method ''", "zero_shot"]),
    "an unknown order": (number("runs.finetune.orders", ["I", "IV"]), ["orders has IV", "II, III"]),
    "a setting of another method": (number("runs.finetune.set", {"experts": 3}), ["set has experts", "lr, shots"]),
    "shots below 0": (number("runs.finetune.set", {"shots": -1}), ["shots is -1"]),
    "yes for a number of parts": (number("runs.finetune.set", {"cut": True}), ["cut is True"]),
    "a grid of no method": (number("tuning.magic", {"lr": [1.0]}), ["tuning.magic"]),
    "a grid of no setting": (number("tuning.finetune", {"rate": [1.0]}), ["tuning.finetune", "'rate'"]),
    "no pictures to draw": (number("tasks.test_per_class", 0), ["test_per_class", "1"]),
    "a size of the CLIP too few": (number("pretrain.config", {"width": 8}), ["pretrain.config", "image_size"]),
}
SETTINGS: Table = {
    "more chosen than experts": (setting("moe_adapters", top_k=5), ["top_k is 5", "1 to 4"]),
    "none chosen": (setting("moe_adapters", top_k=0), ["top_k is 0"]),
    "no experts": (setting("moe_adapters", experts=0), ["experts is 0"]),
    "more frozen than experts": (setting("moe_adapters", freeze=9), ["freeze is 9", "0 to 4"]),
    "an unknown setting": (setting("moe_adapters", expertz=4), ["unknown key expertz", "lr, bottleneck"]),
    "an unknown choice of blocks": (setting("moe_adapters", image_blocks="some"), ["image_blocks is 'some'", "last"]),
    "an unknown choice": (setting("moe_adapters", router="both"), ["router is 'both'", "shared"]),
    "all dropped out": (setting("adapter", dropout=1.0), ["dropout is 1.0"]),
    "a setting of another method": (setting("adapter", top_k=1), ["unknown key top_k"]),
    "no bottleneck": (setting("adapter", bottleneck=0), ["bottleneck is 0"]),
    "a rate below 0": (setting("finetune", lr=-1.0), ["lr is -1.0"]),
    "a rate for a task below 0": (setting("finetune", lr={"red": -1.0}), ["lr.red is -1.0"]),
    "text for a rate": (setting("finetune", lr="fast"), ["lr is 'fast'"]),
    "a temperature of 0": (setting("lwf", temperature=0.0), ["temperature is 0.0"]),
}
UPRIGHT = "upright/0.png"
PICTURES: Table = {
    "a PNG cut short": (picture(bad.packed("PNG")[:900]), [UPRIGHT, "replace or remove"]),
    "a JPEG cut short": (picture(bad.packed("JPEG")[:400], "0.jpg"), ["upright/0.jpg", "replace or remove"]),
    "a GIF by another name": (picture(bad.packed("GIF")), [UPRIGHT, "PNG or JPEG"]),
    "text by another name": (picture(b"hello"), [UPRIGHT, "replace or remove"]),
    "nothing": (picture(b""), [UPRIGHT, "replace or remove"]),
    "a bomb": (picture(bad.png_header(60000, 60000)), [UPRIGHT, "remove"]),
    "large enough for a warning": (picture(bad.png_header(10000, 10000)), [UPRIGHT, "remove"]),
    "a thread": (picture(Image.new("L", (5000, 2))), ["5000 x 2", "remove"]),
    "a folder": (task(lambda red: (red / "train/upright/x.png").mkdir()), ["upright/x.png", "remove"]),
    "a link to nothing": (task(lambda red: (red / "train/upright/x.png").symlink_to("gone")), ["x.png", "remove"]),
    "a class in one split": (task(lambda red: os.rename(red / "train/upright", red / "test/x")), ["one", "upright"]),
    "no split": (task(lambda red: os.rename(red / "test", red / "tset")), ["red/test is missing", "<class>/*.png"]),
    "a class without a name": (task(classes("_")), ["'_'", "give it one"]),
    "a class of blanks": (task(classes("  ")), ["'  '", "give it one"]),
    "classes that differ in case": (task(classes("Upright")), ["'Upright' and 'upright'", "rename"]),
    "classes that differ in a hyphen": (task(classes("plain-sheet")), ["'plain_sheet'", "rename"]),
    "classes that differ in accents' form": (task(classes("caf\u00e9", "cafe\u0301")), ["same prompts", "rename"]),
    "a class that no prompt can hold": (task(classes("very " * 20)), ["16 tokens", "shorter name"]),
    "no template": (task(templates=[]), ["tasks.templates", "a photo of a {}."]),
}
AGAIN = "delete it and run the study again"
ABOUT, STATE = "about.json", "state.safetensors"
CHECKPOINTS: Table = {
    "another backbone": (stored(backbone="b" * 64), ["another backbone", AGAIN]),
    "another run": (stored(run="finetune"), ["finetune", AGAIN]),
    "other settings": (stored(settings={"lr": 0.2}), ["{'lr': 0.2}", AGAIN]),
    "another version": (spoilt(ABOUT, replaced(version=0)), ["version 0", AGAIN]),
    "an unknown key": (spoilt(ABOUT, replaced(colour=1)), ["unknown key colour", AGAIN]),
    "a missing key": (spoilt(ABOUT, replaced(rows=GONE)), ["missing key rows", AGAIN]),
    "a number for a list": (spoilt(ABOUT, replaced(tasks=1)), ["tasks is 1", AGAIN]),
    "another value": (spoilt(ABOUT, replaced(seed=1)), ["about.json is damaged", AGAIN]),
    "no mapping": (spoilt(ABOUT, lambda _: b"[1]"), [AGAIN]),
    "no text": (spoilt(ABOUT, lambda _: b"\xff\xfe\x00"), [AGAIN]),
    "cut short": (spoilt(ABOUT, lambda raw: raw[:-20]), [AGAIN]),
    "nested without end": (spoilt(ABOUT, lambda _: b"[" * 100000), [AGAIN]),
    "tensors cut short": (spoilt(STATE, lambda raw: raw[:-4]), ["state.safetensors is damaged", AGAIN]),
    "nan": (stored(NAN), ["x holds", "finite", AGAIN]),
    "nothing": (lambda home: bad.loaded(home / "gone"), ["no checkpoint", "gone"]),
}
OTHERS: Table = {
    "pictures of floats": (prepared(train_images=torch.zeros(18, 3, 8, 8)), ["red.safetensors", "uint8", "`tasks`"]),
    "a label too few": (prepared(test_labels=torch.zeros(3).long()), ["12 pictures", "`tasks`"]),
    "a label of no class": (prepared(test_labels=torch.full((12,), 3)), ["3 classes", "`tasks`"]),
    "a result cut short": (result(lambda raw: raw[:12]), ["one.json", AGAIN]),
    "a result of another version": (result(replaced(forgetting=GONE)), ["missing key forgetting", AGAIN]),
    "a result of another form": (result(replaced(last=3.0)), ["last is 3.0", AGAIN]),
    "a result with a row too few": (result(replaced(accuracy={"sample": [[1.0]]})), ["accuracy.sample", AGAIN]),
    "a backbone that is not there": (lambda _: load_clip("nowhere"), ["nowhere"]),
}
TABLE = {
    f"{kind}: {case}": line
    for kind, lines in {
        "params": PARAMS,
        "settings": SETTINGS,
        "pictures": PICTURES,
        "checkpoint": CHECKPOINTS,
        "others": OTHERS,
    }.items()
    for case, line in lines.items()
}


@pytest.mark.parametrize("case", TABLE)
def test_bad_input_is_refused_by_its_name_and_with_the_cure(tmp_path: Path, case: str) -> None:
    make, words = TABLE[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - every error of the project is one; its words are checked
        make(tmp_path)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
    assert len(str(caught.value)) < 1500

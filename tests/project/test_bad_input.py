"""Bad input of every kind: refused before anything is learned, by a message that names the thing and the cure.

A line of the table: what is wrong, who makes it and meets it (tests/support/bad_input.py), and words of the message.
"""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from lib import clip
from lib.study import plan
from tests.support import bad_input as bad
from tests.support.bad_input import (
    Maker,
    classes,
    given,
    mixture,
    number,
    only,
    picture,
    prepared,
    result,
    said,
    setting,
    spoilt,
    stored,
    tar,
    task,
)

NAN = float("nan")
PARAMS: dict[str, tuple[Maker, list[str]]] = {
    "no YAML": (given("study: ["), ["params.yaml is not valid YAML", "line 1"]),
    "no text": (given(b"\xff\xfe\x00"), ["params.yaml is not valid YAML", "decode"]),
    "nested without end": (given("[" * 5000), ["not valid YAML", "nested too deeply"]),
    "a date that is none": (given("study: 2001-99-99"), ["not valid YAML", "month"]),
    "a key twice": (given("study: a\nstudy: b\n"), ["key study given twice"]),
    "an unknown key": (number("train.stepz", 5), ["train: unknown key stepz", "allowed: steps"]),
    "text for a number": (number("train.steps", "many"), ["steps is 'many'", "expected int"]),
    "a fraction of a step": (number("train.steps", 1.5), ["steps is 1.5", "expected int"]),
    "no steps": (number("train.steps", 0), ["train.steps and train.epochs are both 0", "give one"]),
    "steps below 0": (number("train.steps", -1), ["train: steps is -1", "must be 0 or more"]),
    "a batch of nothing": (number("train.batch", 0), ["train: batch is 0", "must be 1 or more"]),
    "a warm-up that does not end": (number("train.warmup", 999), ["train.warmup is 999", "choose 0 to 150"]),
    "a crop of nothing": (number("train.crop", 0.0), ["crop is 0.0", "more than 0 and at most 1"]),
    "a crop of more than all": (number("train.crop", 1.1), ["crop is 1.1", "more than 0 and at most 1"]),
    "smoothing above 1": (number("train.smoothing", 1.5), ["smoothing is 1.5", "must be 0 to 1"]),
    "a rate that is no number": (number("selector.lr", NAN), ["selector: lr is no number", "give one"]),
    "a rate without end": (number("selector.lr", float("inf")), ["selector: lr is no number"]),
    "a number of 400 digits": (number("tasks.seed", 10**400), ["tasks: seed is no number", "at most"]),
    "a rate below 0": (number("selector.lr", -0.1), ["selector: lr is -0.1", "more than 0"]),
    "a quantile of nothing": (number("selector.threshold", 0), ["threshold is 0", "more than 0"]),
    "a quantile above 1": (number("selector.threshold", 1.2), ["selector.threshold is 1.2", "1 at most"]),
    "a reference that is not there": (
        number("selector.reference", True, ("reference", None)),
        ["selector.reference needs pictures", "add a section `reference:`"],
    ),
    "no threads": (number("compute.threads", 0), ["threads is 0", "must be 1 or more"]),
    "a batch in no parts": (number("compute.accumulate", 0), ["accumulate is 0", "must be 1 or more"]),
    "an unknown device": (number("compute.device", "tpu"), ["device is 'tpu'", "allowed: auto, cpu, cuda"]),
    "an order with a task twice": (number("tasks.orders.I", ["a", "b", "a"]), ["orders.I", "each once"]),
    "an empty order": (number("tasks.orders.I", []), ["orders.I is []", "one task or more"]),
    "a task that is a path": (
        number("tasks.orders.I", ["../a"]),
        ["orders.I[0] is '../a'", "letters, digits"],
    ),
    "a study that is a path": (number("study", "a/b"), ["study is 'a/b'", "letters, digits"]),
    "a study that is not its folder's": (bad.study_folder("mini", "other"), ["study is 'mini'", "'other'"]),
    "a template without a place": (
        number("tasks.templates", ["a cat"]),
        ["templates[0]", "{} for the class"],
    ),
    "a template with more braces": (
        number("tasks.templates", ["{} {x}"]),
        ["templates[0]", "no other braces"],
    ),
    "a seed twice": (number("runs.finetune.seeds", [1, 1]), ["seeds is [1, 1]", "different numbers"]),
    "no seed": (number("runs.finetune.seeds", []), ["runs.finetune.seeds is empty", "give at least one"]),
    "a run of no method": (
        number("runs.magic", {"seeds": [0], "set": {}}),
        ["'magic'", "there are: zero_shot"],
    ),
    "no pictures to draw": (number("tasks.test_per_class", 0), ["test_per_class", "1 or more"]),
    "a size of the CLIP too few": (
        number("pretrain.config", {"width": 8}),
        ["config is", "image_size, width"],
    ),
}
SETTINGS: dict[str, tuple[Maker, list[str]]] = {
    "more chosen than experts": (setting("moe_adapters", top_k=5), ["top_k is 5", "choose 1 to 4"]),
    "none chosen": (setting("moe_adapters", top_k=0), ["top_k is 0", "must be 1 or more"]),
    "no experts": (setting("moe_adapters", experts=0), ["experts is 0", "must be 1 or more"]),
    "more frozen than experts": (setting("moe_adapters", freeze=9), ["freeze is 9", "choose 0 to 4"]),
    "all dropped out": (setting("adapter", dropout=1.0), ["dropout is 1.0", "below 1"]),
    "no bottleneck": (setting("adapter", bottleneck=0), ["bottleneck is 0", "must be 1 or more"]),
    "a rate for a method below 0": (setting("finetune", lr=-1.0), ["lr is -1.0", "more than 0"]),
    "a rate for a task below 0": (
        setting("finetune", lr={"red": -1.0}),
        ["lr is {'red': -1.0}", "more than 0"],
    ),
    "a temperature of 0": (setting("lwf", temperature=0.0), ["temperature is 0.0", "more than 0"]),
}
PICTURES: dict[str, tuple[Maker, list[str]]] = {
    "a PNG cut short": (
        picture(bad.packed("PNG")[:900]),
        ["upright/0.png is no readable", "replace or remove"],
    ),
    "a JPEG cut short": (picture(bad.packed("JPEG")[:400], "0.jpg"), ["upright/0.jpg", "replace or remove"]),
    "a GIF by another name": (picture(bad.packed("GIF")), ["upright/0.png", "PNG or JPEG", "replace"]),
    "text by another name": (picture(b"hello"), ["upright/0.png is no readable", "replace or remove"]),
    "nothing": (picture(b""), ["upright/0.png is no readable picture", "replace or remove"]),
    "a bomb": (picture(bad.png_header(60000, 60000)), ["upright/0.png", "exceeds limit", "remove"]),
    "large enough for a warning": (picture(bad.png_header(10000, 10000)), ["upright/0.png", "remove"]),
    "a thread": (picture(Image.new("L", (5000, 2))), ["5000 x 2 pixels", "crop or remove it"]),
    "a folder": (task(lambda red: (red / "train/upright/x.png").mkdir()), ["upright/x.png", "remove it"]),
    "a link to nothing": (
        task(lambda red: (red / "train/upright/x.png").symlink_to("gone")),
        ["upright/x.png is no readable picture", "replace or remove it"],
    ),
    "no pictures": (
        task(lambda red: os.rename(red / "train/upright", red / "test/x")),
        ["only in one", "upright"],
    ),
    "no split": (
        task(lambda red: os.rename(red / "test", red / "tset")),
        ["red/test is missing", "<class>/*.png"],
    ),
    "one class": (task(only(1)), ["train has 1 class folders", "at least 2"]),
    "a class without a name": (task(classes("_")), ["class folder '_' without a name", "give it one"]),
    "a class of blanks": (task(classes("  ")), ["class folder '  ' without a name", "give it one"]),
    "classes that differ in case": (task(classes("Upright")), ["'Upright' and 'upright'", "rename one"]),
    "classes that differ in a hyphen": (task(classes("plain-sheet")), ["'plain_sheet'", "rename one"]),
    "classes that differ in accents' form": (
        task(classes("caf\u00e9", "cafe\u0301")),
        ["make the same prompts", "rename one"],
    ),
    "a class that no prompt can hold": (
        task(classes("very " * 20)),
        ["'very very", "16 tokens", "shorter name"],
    ),
    "no template": (task(templates=[]), ["tasks.templates is empty", "a photo of a {}."]),
}
ARCHIVES: dict[str, tuple[Maker, list[str]]] = {
    "a way out": (tar("../evil"), ["set.tar is damaged or unsafe", "evil", "outside", "by hand if you trust"]),
    "a link": (tar("a", type=b"2", linkname="/etc"), ["'a' is a symbolic link", "by hand"]),
    "a hard link out": (tar("a", type=b"1", linkname="/etc/x"), ["'a' is a link to an absolute path", "by hand"]),
    "a device": (tar("a", type=b"3"), ["'a' is a special file", "by hand"]),
    "no archive": (bad.not_a_tar, ["set.tgz is damaged", "delete it to fetch it again"]),
}
AGAIN = "delete it and run the study again"
HERE = "make the model with the config"
CHECKPOINTS: dict[str, tuple[Maker, list[str]]] = {
    "another backbone": (stored(backbone="b" * 64), ["run belongs to another backbone", AGAIN]),
    "another run": (stored(run="finetune"), ["belongs to run finetune", AGAIN]),
    "other settings": (stored(settings={"lr": 0.2}), ["{'lr': 0.2}", AGAIN]),
    "another version": (spoilt("about.json", said(version=0)), ["run has version 0", AGAIN]),
    "an unknown key": (spoilt("about.json", said(colour=1)), ["unknown key colour", AGAIN]),
    "a number for a list": (spoilt("about.json", said(tasks=1)), ["tasks is 1", AGAIN]),
    "no mapping": (spoilt("about.json", lambda _: b"[1]"), ["run is no whole checkpoint", AGAIN]),
    "nested without end": (spoilt("about.json", lambda _: b"[" * 100000), ["no whole checkpoint", AGAIN]),
    "tensors cut short": (spoilt("state.safetensors", lambda raw: raw[:-4]), ["is damaged", AGAIN]),
    "nan": (stored({"x": torch.tensor([NAN])}), ["holds what is no number, in x", AGAIN]),
    "another E": (mixture(experts=5), ["(5,) in the adapter state, (4,) here", HERE]),
    "another K": (mixture(top_k=1), ["top_k is 1 in the adapter state, 2 here", HERE]),
    "another R": (mixture(bottleneck=8), ["(4, 32, 8) in the adapter state", HERE]),
    "another D": (mixture(width=64), ["(4, 64, 4) in the adapter state", HERE]),
    "a tensor too few": (
        mixture(change=lambda s: s.pop("image_adapters.0.mass")),
        ["image_adapters.0.mass is missing", HERE],
    ),
    "a tensor too many": (mixture(change=lambda s: s.update(x=s["top_k"])), ["has x, which", HERE]),
}
OTHERS: dict[str, tuple[Maker, list[str]]] = {
    "pictures of floats": (
        prepared(train_images=torch.zeros(18, 3, 8, 8)),
        ["red.safetensors", "uint8", "`tasks`"],
    ),
    "a label too few": (
        prepared(test_labels=torch.zeros(3).long()),
        ["for 12 pictures", "the stage `tasks`"],
    ),
    "a label of no class": (
        prepared(test_labels=torch.full((12,), 3)),
        ["outside of its 3 classes", "`tasks`"],
    ),
    "a result cut short": (result('{"study": "mi'), ["finetune--I--s0.json is no whole result", AGAIN]),
    "a result of another version": (result(forgetting=None), ["missing key forgetting", AGAIN]),
    "a result of another form": (result(last=3.0), ["last is 3.0", AGAIN]),
    "a result with a row too few": (
        result(accuracy={"sample": [[1.0]]}),
        ["accuracy.sample has rows", AGAIN],
    ),
    "a backbone that is not there": (
        lambda _: clip.load_clip("nowhere"),
        ["no folder nowhere", "near matches"],
    ),
}
TABLE = {
    f"{kind}: {case}": line
    for kind, lines in {
        "params": PARAMS,
        "settings": SETTINGS,
        "pictures": PICTURES,
        "archive": ARCHIVES,
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


def test_a_plan_out_of_step_is_written_again(tmp_path: Path) -> None:
    number("tasks.seed", 1)(tmp_path)  # a good one
    for left in (None, b"", b"\xff\x00", b"learn: {}\n"):
        if left is not None:
            (tmp_path / "plan.yaml").write_bytes(left)
        assert plan.write(root=tmp_path) == ["plan.yaml"]
    assert plan.write(root=tmp_path) == []

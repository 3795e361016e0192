"""Bad input of every kind: refused before anything is learned, by a message that names the thing and the cure.

A line of the table: what is wrong, who makes it and meets it (tests/support/bad_input.py), and words of the message.
"""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support import bad_input as bad
from tests.support.bad_input import GONE, Maker, given, number, picture, setting, spoilt, stored, task

NAN = float("nan")
RUN = {"seeds": [0], "set": {}}
Table = dict[str, tuple[Maker, list[str]]]
NINE = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
PARAMS: Table = {
    "no YAML": (given("study: ["), ["not valid YAML", "line 1"]),
    "nested without end": (given("[" * 5000), ["not valid YAML", "nested"]),
    "an alias inside what it names": (given("study: &a [*a]"), ["not valid YAML", "alias"]),
    "aliases that would fill the memory": (given("\n".join(["a0: &a0 [x]", *NINE])), ["too large", "aliases"]),
    "a date that does not exist": (given("study: 2001-99-99"), ["not valid YAML", "month"]),
    "a key twice": (given("study: a\nstudy: b\n"), ["study given twice"]),
    "nothing": (given(""), ["mapping"]),
    "an unknown key": (number("train.stepz", 5), ["unknown key train.stepz", "steps, batch"]),
    "a missing key": (number("train.steps", GONE), ["missing key train.steps"]),
    "text for a number": (number("train.steps", "many"), ["train.steps is 'many'", "integer"]),
    "a number for yes": (number("runs.finetune.by_task", 1), ["by_task is 1", "boolean"]),
    "no steps": (number("train.steps", 0), ["train.steps and train.epochs", "give one"]),
    "a warm-up that does not end": (number("train.warmup", 999), ["train.warmup is 999", "train.steps"]),
    "a rate that is not finite": (number("selector.lr", NAN), ["selector.lr is nan"]),
    "a number of 400 digits": (number("tasks.seed", 10**400), ["tasks.seed is 1000"]),
    "a quantile above 1": (number("selector.threshold", 1.2), ["selector.threshold is 1.2"]),
    "a reference that is not there": (
        number("selector.reference", True, ("reference", None)),
        ["selector.reference", "`reference:`"],
    ),
    "an unknown source": (number("tasks.source", "web"), ["tasks.source is 'web'", "mini"]),
    "no order": (number("tasks.orders", {}), ["tasks.orders is empty"]),
    "an order with a task twice": (number("tasks.orders.I", ["a", "b", "a"]), ["tasks.orders.I", "each once"]),
    "a task that is a path": (number("tasks.orders.I", ["../a"]), ["tasks.orders.I.0 is '../a'"]),
    "a study that is a path": (number("study", "a/b"), ["study is 'a/b'"]),
    "a template without a place": (number("tasks.templates", ["a cat"]), ["tasks.templates.0", "{}"]),
    "a seed twice": (number("runs.finetune.seeds", [1, 1]), ["runs.finetune.seeds is [1, 1]"]),
    "a run of no method": (number("runs.magic", RUN), ["'magic'", "zero_shot"]),
    "an unknown order": (number("runs.finetune.orders", ["I", "IV"]), ["orders has IV", "II, III"]),
    "more seeds than there are": (number("runs.finetune.orders", {"I": 99}), [".orders wants 99", "there are"]),
    "other pictures without a seed": (number("runs.finetune.set", {"data_seed": "a"}), [".set.data_seed is 'a'", "0"]),
    "an order for tuning that is not there": (number("tuning_order", "IV"), ["tuning_order is 'IV'", "II, III"]),
    "a grid of no setting": (number("tuning.finetune", {"rate": [1.0]}), ["tuning.finetune", "'rate'"]),
    "no pictures to draw": (number("tasks.test_per_class", 0), ["test_per_class", "1"]),
    "a size of the CLIP too few": (number("pretrain.config", {"width": 8}), ["pretrain.config", "image_size"]),
}
SETTINGS: Table = {
    "more chosen than experts": (setting("moe_adapters", top_k=5), ["top_k is 5", "1 to 4"]),
    "an unknown setting": (setting("moe_adapters", expertz=4), ["unknown key expertz", "lr, bottleneck"]),
    "a rate for a task below 0": (setting("finetune", lr={"red": -1.0}), ["lr.red is -1.0"]),
}
UPRIGHT = "upright/0.png"
PICTURES: Table = {
    "a PNG cut short": (picture(bad.packed("PNG")[:900]), [UPRIGHT, "replace or remove"]),
    "a GIF by another name": (picture(bad.packed("GIF")), [UPRIGHT, "PNG or JPEG"]),
    "nothing": (picture(b""), [UPRIGHT, "replace or remove"]),
    "a bomb": (picture(bad.png_header(60000, 60000)), [UPRIGHT, "remove"]),
    "large enough for a warning": (picture(bad.png_header(10000, 10000)), [UPRIGHT, "remove"]),
    "a thread": (picture(Image.new("L", (5000, 2))), ["5000 x 2", "remove"]),
    "a link to nothing": (task(lambda red: (red / "train/upright/x.png").symlink_to("gone")), ["x.png", "remove"]),
    "a class in one split": (task(lambda red: os.rename(red / "train/upright", red / "test/x")), ["one", "upright"]),
    "no split": (task(lambda red: os.rename(red / "test", red / "tset")), ["red/test is missing", "<class>/*.png"]),
    "a class without a name": (task(bad.classes("_")), ["' '", "shorter name"]),
    "classes that differ in case": (task(bad.classes("Upright")), ["'Upright' and 'upright'", "rename"]),
    "classes that differ in accents' form": (task(bad.classes("caf\u00e9", "cafe\u0301")), ["same prompts", "rename"]),
    "a class that no prompt can hold": (task(bad.classes("very " * 20)), ["16 tokens", "shorter name"]),
}
AGAIN = "delete it and run the study again"
ABOUT, STATE = "about.json", "state.safetensors"
CHECKPOINTS: Table = {
    "another backbone": (stored(backbone="b" * 64), ["another backbone", AGAIN]),
    "another run": (stored(run="finetune"), ["finetune", AGAIN]),
    "other settings": (stored(settings={"lr": 0.2}), ["{'lr': 0.2}", AGAIN]),
    "another version": (spoilt(ABOUT, bad.replaced(version=0)), ["version 0", AGAIN]),
    "a missing key": (spoilt(ABOUT, bad.replaced(rows=GONE)), ["missing key rows", AGAIN]),
    "another value": (spoilt(ABOUT, bad.replaced(seed=1)), ["about.json is damaged", AGAIN]),
    "nested without end": (spoilt(ABOUT, lambda _: b"[" * 100000), [AGAIN]),
    "nan": (stored(NAN), ["x holds", "finite", AGAIN]),
    "nothing": (lambda home: bad.loaded(home / "gone"), ["no checkpoint", "gone"]),
}
OTHERS: Table = {
    "pictures of floats": (
        bad.prepared(train_images=torch.zeros(18, 3, 8, 8)),
        ["red.safetensors", "uint8", "`tasks`"],
    ),
    "a label too few": (bad.prepared(test_labels=torch.zeros(3).long()), ["12 pictures", "`tasks`"]),
    "a label of no class": (bad.prepared(test_labels=torch.full((12,), 3)), ["3 classes", "`tasks`"]),
    "a result cut short": (bad.result(lambda raw: raw[:12]), ["one.json", AGAIN]),
    "a result of another version": (bad.result(bad.replaced(forgetting=GONE)), ["missing key forgetting", AGAIN]),
    "a result with a row too few": (bad.result(bad.replaced(accuracy={"sample": [[1.0]]})), ["accuracy.sample", AGAIN]),
}
TABLES = {"params": PARAMS, "settings": SETTINGS, "pictures": PICTURES, "checkpoint": CHECKPOINTS, "others": OTHERS}
CASES = {f"{kind}: {case}": line for kind, lines in TABLES.items() for case, line in lines.items()}


@pytest.mark.parametrize(("make", "words"), CASES.values(), ids=CASES)
def test_bad_input_is_refused_by_its_name_and_with_the_cure(tmp_path: Path, make: Maker, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - every error of the project is one; its words are checked
        make(tmp_path)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
    assert len(str(caught.value)) < 1500

"""Whatever a file holds, a reader returns something valid or raises its own error: never another, never without end.

The examples are the same on every run (hypothesis, derandomised).
"""

import copy
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lib.data import folders, tasks
from lib.report import tables
from lib.study import checkpoint, params, plan
from lib.study.checkpoint import CheckpointError
from tests.support import small_study
from tests.support.bad_input import about, packed
from tests.support.made_results import result

SEVERAL = {"derandomize": True, "deadline": None, "database": None}
SEVERAL |= {"suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
many, some = (settings(max_examples=count, **SEVERAL) for count in (150, 40))  # type: ignore[arg-type]

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([10**400, -1, 0, "../a", "", "mini", "I", 0.5]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(raw: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every place of nested mappings and lists."""
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def put(raw: Any, path: tuple, value: Any) -> Any:
    """A copy with another value at a place."""
    made = copy.deepcopy(raw)
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return made


def cut_and_changed(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with a few bytes changed, and perhaps the end cut off."""
    where = st.integers(0, len(content) - 1)
    changes = st.dictionaries(where, st.integers(0, 255), max_size=4)

    def make(changed: dict[int, int], end: int) -> bytes:
        made = bytearray(content)
        for place, value in changed.items():
            made[place] = value
        return bytes(made[:end])

    return st.builds(make, changes, st.just(len(content)) | where)


def result_of(read: Callable[[], Any], error: type[Exception], name: object) -> Any:
    """What a reader returns; None if it raises its own error, with the name of what it read and in few words."""
    try:
        return read()
    except error as own:
        if str(name) not in str(own) or len(str(own)) > 3000:
            pytest.fail(f"the message does not name {name}, or is too long: {str(own)[:3000]}")
        return None


def refused_or_usable(file: Path) -> bool:
    """True for params that are refused, or that can be planned and whose numbers are numbers."""
    study = result_of(lambda: params.load(file), params.ParamsError, file)
    return study is None or (
        math.isfinite(study.selector.lr)
        and study.train.batch >= 1
        and all("/" not in key and 0 <= i.first < i.stop for key, i in plan.items(study).items())
    )


RAW = small_study.RAW  # short


@many
@given(st.sampled_from(list(places(RAW))), VALUES)
def test_params_with_any_value_anywhere(tmp_path: Path, path: tuple, value: Any) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(put(RAW, path, value), sort_keys=False, allow_unicode=False))
    assert refused_or_usable(file)


@many
@given(cut_and_changed(yaml.safe_dump(RAW, sort_keys=False).encode()) | st.binary(max_size=60))
def test_params_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    assert refused_or_usable(tmp_path / "params.yaml")


@pytest.mark.parametrize("place", ["study", "tasks", "train", "runs", "tuning", "compute"])
def test_params_whose_aliases_would_fill_the_memory_are_refused_in_few_words(tmp_path: Path, place: str) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    rest = {key: value for key, value in RAW.items() if key not in (place, "methods")}
    value = "{zero_shot: {lr: *a29}}" if place == "tuning" else "*a29"
    text = f"methods: {{zero_shot: {{{', '.join(lines)}}}}}\n{place}: {value}\n{yaml.safe_dump(rest)}"
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(params.ParamsError, match=place) as caught:
        params.load(tmp_path / "params.yaml")
    assert len(str(caught.value)) < 3000


@some
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_a_plan_of_any_bytes_is_out_of_step_and_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(RAW, sort_keys=False))
    (tmp_path / "plan.yaml").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        for module in (plan, params):
            patch.setattr(module, "ROOT", tmp_path)
        assert plan.write() == ["plan.yaml"]
        assert plan.write() == []
    assert "learn" in yaml.safe_load((tmp_path / "plan.yaml").read_text())


RESULT = result("zero_shot")


def refused_or_a_table(home: Path, content: bytes) -> bool:
    """True for a result that is refused, or that makes a table."""
    file = home / "results" / "mini" / "zero_shot--I--s0.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    found = result_of(lambda: tables.read(file.parent), tables.ResultError, file)
    return found is None or len(tables.summary(found)) == len(found[0]["accuracy"])


@many
@given(st.sampled_from([path for path in places(RESULT)]), VALUES)
def test_results_with_any_value_anywhere(tmp_path: Path, path: tuple, value: Any) -> None:
    assert refused_or_a_table(tmp_path, json.dumps(put(RESULT, path, value)).encode())


@many
@given(cut_and_changed(json.dumps(RESULT).encode()) | st.binary(max_size=60))
def test_results_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    assert refused_or_a_table(tmp_path, content)


def refused_or_as_written(home: Path, name: str, change: Callable[[bytes], bytes]) -> bool:
    """True for a checkpoint with a changed file that is refused, or from which what was written is read."""
    checkpoint.save(home / "run", about(), {"x": torch.ones(3)})
    file = home / "run" / name
    file.write_bytes(change(file.read_bytes()))
    pair = result_of(
        lambda: checkpoint.load(home / "run", "a" * 64, "adapter", {"lr": 0.1}), CheckpointError, home / "run"
    )
    if pair is None:
        return True
    found, state = pair
    same = (found.run, found.tasks, found.rows) == ("adapter", ["red"], about().rows)
    return same and torch.equal(state["x"], torch.ones(3))


ABOUT = json.loads(json.dumps(about(), default=vars))


@many
@given(st.sampled_from(list(places(ABOUT))), VALUES)
def test_what_a_checkpoint_says_with_any_value_anywhere(tmp_path: Path, path: tuple, value: Any) -> None:
    def change(raw: bytes) -> bytes:
        return json.dumps(put(json.loads(raw), path, value)).encode()

    assert refused_or_as_written(tmp_path, "about.json", change)


@some
@given(st.sampled_from(["about.json", "state.safetensors"]), st.data())
def test_checkpoints_of_any_bytes(tmp_path: Path, name: str, data: st.DataObject) -> None:
    def change(raw: bytes) -> bytes:
        return data.draw(cut_and_changed(raw) | st.binary(max_size=60))

    assert refused_or_as_written(tmp_path, name, change)


@some
@given(st.data())
def test_prepared_tasks_of_any_bytes(tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "red.safetensors"
    tasks.save(small_study.task(0, train=1, test=1), file)
    head = 600  # what describes the tensors: any pixels are right
    raw = file.read_bytes()
    file.write_bytes(data.draw(cut_and_changed(raw[:head])) + raw[head:])
    found = result_of(lambda: tasks.load(file), tasks.TaskError, file)
    if found is None:
        return
    assert found.train.images.shape[1] == 3
    assert int(found.test.labels.max()) < len(found.classes)


@many
@given(st.sampled_from(["PNG", "JPEG"]), st.data())
def test_pictures_of_any_bytes(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(data.draw(cut_and_changed(packed(kind)) | st.binary(max_size=60)))
    found = result_of(lambda: folders.decode(file, 8), tasks.TaskError, file)
    assert found is None or (found.shape, found.dtype) == ((8, 8, 3), np.uint8)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)
SHEET = io.BytesIO()
Image.new("RGB", (4, 4)).save(SHEET, "PNG")


@some
@given(st.lists(NAMES, max_size=4, unique=True))
def test_folders_of_any_names(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    home = tmp_path_factory.mktemp("any")
    for split in ("train", "test"):
        for name in names:
            (home / "red" / split / name).mkdir(parents=True, exist_ok=True)
            (home / "red" / split / name / "0.png").write_bytes(SHEET.getvalue())
    wanted = small_study.study({"tasks.root": "."}).tasks
    tokenizer = small_study.backbone().tokenizer
    made = result_of(lambda: folders.make("red", wanted, 32, home), tasks.TaskError, "red")
    if made and result_of(lambda: tasks.check_prompts(made, tokenizer) or True, tasks.TaskError, "red"):
        assert len({tuple(row.tolist()) for row in tokenizer(made.classes)}) == len(made.classes)

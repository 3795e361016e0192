"""Whatever a file holds, a reader returns something valid or raises its own error: never another, never without end.

The examples are the same on every run (hypothesis, derandomised).
"""

import copy
import io
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
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
from tests.support.bad_input import about, loaded, packed
from tests.support.made_results import result

SEVERAL = {"derandomize": True, "deadline": None, "database": None}
SEVERAL |= {"suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
many, some = (settings(max_examples=count, **SEVERAL) for count in (250, 40))  # type: ignore[arg-type]

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


def files(raw: Any, dump: Callable[[Any], str]) -> st.SearchStrategy[bytes]:
    """What a file may hold: its content with any value anywhere, some bytes changed or cut off, or anything else."""
    changed = st.builds(
        lambda path, value: dump(put(raw, path, value)).encode(), st.sampled_from(list(places(raw))), VALUES
    )
    return changed | changed | cut_and_changed(dump(raw).encode()) | st.binary(max_size=60)


def result_of(read: Callable[[], Any], error: type[Exception], name: object) -> Any:
    """What a reader returns; None if it raises its own error, with the name of what it read and in few words."""
    try:
        return read()
    except error as own:
        if str(name) not in str(own) or len(str(own)) > 3000:
            pytest.fail(f"the message does not name {name}, or is too long: {str(own)[:3000]}")
        return None


RAW = small_study.RAW  # short
RESULT = result("zero_shot")
ABOUT = json.loads(json.dumps(about(), default=vars))


@many
@given(files(RAW, partial(yaml.safe_dump, sort_keys=False)))
def test_params(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    study = result_of(lambda: params.load(file), params.ParamsError, file)
    if study is not None:
        assert math.isfinite(study.selector.lr)
        assert study.train.batch >= 1
        assert all("/" not in key and item.tasks > 0 for key, item in plan.items(study).items())


def test_params_whose_aliases_would_fill_the_memory_are_refused_in_few_words(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    rest = {key: value for key, value in RAW.items() if key != "methods"}
    file = tmp_path / "params.yaml"
    file.write_text(f"methods: {{zero_shot: {{{', '.join(lines)}}}}}\n{yaml.safe_dump(rest)}")
    assert result_of(lambda: params.load(file), params.ParamsError, file) is None


@some
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_a_plan_of_any_bytes_is_out_of_step_and_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(RAW, sort_keys=False))
    (tmp_path / "plan.yaml").write_bytes(content)
    assert plan.write(root=tmp_path) == ["plan.yaml"]
    assert plan.write(root=tmp_path) == []
    assert "learn" in yaml.safe_load((tmp_path / "plan.yaml").read_text())


@many
@given(files(RESULT, json.dumps))
def test_results(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "zero_shot--I--s0.json"
    file.write_bytes(content)
    read = result_of(lambda: tables.read(tmp_path), tables.ResultError, file)
    assert read is None or len(tables.summary(read)) == len(read[0]["accuracy"])


def refused_or_as_written(home: Path) -> bool:
    """True for a checkpoint that is refused, or from which what was written is read."""
    pair = result_of(lambda: loaded(home / "run"), CheckpointError, home / "run")
    if pair is None:
        return True
    read, state = pair
    same = (read.run, read.tasks, read.rows) == ("adapter", ["red"], about().rows)
    return same and torch.equal(state["x"], torch.ones(3))


@many
@given(files(ABOUT, json.dumps))
def test_what_a_checkpoint_says(tmp_path: Path, content: bytes) -> None:
    checkpoint.save(tmp_path / "run", about(), {"x": torch.ones(3)})
    (tmp_path / "run" / "about.json").write_bytes(content)
    assert refused_or_as_written(tmp_path)


@some
@given(st.sampled_from(["about.json", "state.safetensors"]), st.data())
def test_a_checkpoints_files(tmp_path: Path, name: str, data: st.DataObject) -> None:
    checkpoint.save(tmp_path / "run", about(), {"x": torch.ones(3)})
    file = tmp_path / "run" / name
    file.write_bytes(data.draw(cut_and_changed(file.read_bytes()) | st.binary(max_size=60)))
    assert refused_or_as_written(tmp_path)


@some
@given(st.data())
def test_prepared_tasks(tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "red.safetensors"
    tasks.save(small_study.task(0, train=1, test=1), file)
    head = 600  # what describes the tensors: any pixels are right
    raw = file.read_bytes()
    file.write_bytes(data.draw(cut_and_changed(raw[:head])) + raw[head:])
    task = result_of(lambda: tasks.load(file), tasks.TaskError, file)
    if task is not None:
        assert task.train.images.shape[1] == 3
        assert int(task.test.labels.max()) < len(task.classes)


@many
@given(st.sampled_from(["PNG", "JPEG"]), st.data())
def test_pictures(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(data.draw(cut_and_changed(packed(kind)) | st.binary(max_size=60)))
    picture = result_of(lambda: folders.decode(file, 8), tasks.TaskError, file)
    assert picture is None or (picture.shape, picture.dtype) == ((8, 8, 3), np.uint8)


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

"""Whatever a file holds, a reader returns something valid or raises its own error: never another, never without end.

The examples are the same on every run (hypothesis, derandomised).
"""

import copy
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

from lib.data import folders, tasks
from lib.report import tables
from lib.study import checkpoint, params, plan
from lib.study.checkpoint import CheckpointError
from tests.support import small_study
from tests.support.bad_input import about, loaded, packed
from tests.support.made_results import result

many = settings(
    max_examples=250,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD = st.sampled_from([10**400, -1, 0, "../a", "", "mini", "I", 0.5])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ODD
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
BYTES = st.binary(max_size=60)


def places(raw: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every place of nested mappings and lists."""
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def put(raw: Any, path: tuple, value: Any) -> Any:
    """A copy with another value at a place."""
    changed = copy.deepcopy(raw)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with a few bytes changed, and perhaps the end cut off."""
    where, changed = st.integers(0, len(content) - 1), bytearray(content)
    for place, value in draw(st.dictionaries(where, st.integers(0, 255), max_size=4)).items():
        changed[place] = value
    return bytes(changed[: draw(st.just(len(content)) | where)])


def files(raw: Any, dump: Callable[[Any], str]) -> st.SearchStrategy[bytes]:
    """What a file may hold: its content with any value anywhere, some bytes changed or cut off, or anything else."""
    path = st.sampled_from(list(places(raw)))
    changed = st.builds(lambda path, value: dump(put(raw, path, value)).encode(), path, VALUES)
    return changed | changed | damaged(dump(raw).encode()) | BYTES


def read_or_refused(read: Callable[[], Any], error: type[Exception], name: object) -> Any:
    """What a reader returns; None if it raises its own error, with the name of what it read and in few words."""
    try:
        return read()
    except error as own:
        if str(name) not in str(own) or len(str(own)) > 3000:
            pytest.fail(f"the message does not name {name}, or is too long: {str(own)[:3000]}")
        return None


ABOUT = json.loads(json.dumps(about(), default=vars))


@many
@given(files(small_study.RAW, partial(yaml.safe_dump, sort_keys=False)))
def test_params(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    study = read_or_refused(lambda: params.load(file), params.ParamsError, file)
    if study is not None:
        assert math.isfinite(study.selector.lr)
        assert study.train.batch >= 1
        assert all("/" not in key and item.tasks > 0 for key, item in plan.items(study).items())


@many
@given(files(result("zero_shot"), json.dumps))
def test_results(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "zero_shot--I--s0.json"
    file.write_bytes(content)
    read = read_or_refused(lambda: tables.read(tmp_path), tables.ResultError, file)
    assert read is None or len(tables.summary(read)) == len(read[0]["accuracy"])


@many
@given(st.sampled_from(["about.json", "state.safetensors"]), st.data())
def test_checkpoints(tmp_path: Path, name: str, data: st.DataObject) -> None:
    checkpoint.save(tmp_path / "run", about(), {"x": torch.ones(3)})
    file = tmp_path / "run" / name
    content = files(ABOUT, json.dumps) if name == "about.json" else damaged(file.read_bytes()) | BYTES
    file.write_bytes(data.draw(content))
    pair = read_or_refused(lambda: loaded(tmp_path / "run"), CheckpointError, tmp_path / "run")
    if pair is not None:
        read, state = pair
        assert (read.run, read.tasks, read.rows) == ("adapter", ["red"], about().rows)
        assert torch.equal(state["x"], torch.ones(3))


@many
@given(damaged(packed("PNG")) | damaged(packed("JPEG")) | BYTES)
def test_pictures(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(content)
    picture = read_or_refused(lambda: folders.decode(file, 8), tasks.TaskError, file)
    assert picture is None or (picture.shape, picture.dtype) == ((8, 8, 3), np.uint8)

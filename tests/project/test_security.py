"""Nothing that is read can run something, downloads are https and checked, and what is committed tells no secrets."""

import ast
import gzip
import os
import pickle
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lib import clip
from lib.clip import tiny as tiny_clip
from lib.data import frozen, tasks
from lib.study.code_digests import cells
from lib.study.studies import ROOT
from tests.support import small_study
from tests.support.bad_input import Maker, result, spoilt
from tools.datasets import download
from tools.datasets.catalogue import NAMES, catalogue
from tools.miniworld import pretrain

# what runs code that it is given, and the one place of each that may
UNSAFE = {"pickle.load", "pickle.loads", "torch.load", "joblib.load", "dill.load", "os.system", "os.popen"}
UNSAFE |= {"eval", "exec", "compile", "__import__", "numpy.load", "np.load", "pd.read_pickle"}
REASONS = {
    ("tools/course/exercises.py", "exec"): "runs the course's own solution where a student has none",
    ("tools/course/exercises.py", "compile"): "the same",
    ("tests/run_course.py", "exec"): "runs the course's own cells",
    ("tests/run_course.py", "compile"): "the same",
    ("tests/project/test_contributing.py", "exec"): "runs the example of CONTRIBUTING.md",
    ("tests/moe/test_golden.py", "np.load"): "of arrays; numpy reads no pickle unless it is asked to",
    ("tests/project/test_security.py", "pickle.loads"): "shows that its pickle does harm",
}


def test_nothing_calls_what_could_run_a_files_content() -> None:
    files = [path for room in ("lib", "tools", "tests") for path in ROOT.glob(f"{room}/**/*.py")]
    sources = {path: path.read_text() for path in files}
    sources |= {path: "\n".join(cells(path)) for path in ROOT.glob("notebooks/**/*.ipynb")}
    unsafe = set()
    for path, source in sources.items():
        for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
            name, words = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
            if name in UNSAFE:
                unsafe.add((str(path.relative_to(ROOT)), name))
            assert name != "yaml.load" or ast.unparse(call.args[1]).endswith(("UniqueKeyLoader", "SafeLoader")), path
            assert words.get("shell", "False") == "False", f"{path}: {name}"
            assert words.get("allow_pickle", "False") == "False", f"{path}: {name}"
            assert words.get("weights_only", "True") == "True", f"{path}: {name}"
    assert unsafe == set(REASONS), "a new one needs its reason; one that is gone needs none"


class Harmful:
    """Its pickle, when unpickled, makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def from_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], Maker]:
    """Reads a file of this name that is the pickle; beside it stands a whole tiny CLIP."""

    def make(home: Path, content: bytes) -> None:
        tiny_clip.save(tiny_clip.build(small_study.CONFIG, 0), home, small_study.CONFIG, 0, [])
        (home / name).write_bytes(content)
        read(home / name)

    return lambda content: lambda home: make(home, content)


READERS: dict[str, Callable[[bytes], Maker]] = {
    "run .*state.safetensors": lambda content: spoilt("state.safetensors", lambda _: content),
    "run cannot be used": lambda content: spoilt("about.json", lambda _: content),
    "one.json": lambda content: result(lambda _: content),
    "weights.pt": from_file("weights.pt", lambda file: clip.load_clip("ViT-B-32", str(file))),
    "tiny CLIP": from_file("tiny_clip.safetensors", lambda file: clip.load_clip(str(file.parent))),
    "snapshot": from_file("snapshot", lambda f: pretrain.load_snapshot(f, {}, torch.optim.SGD([torch.zeros(1)]))),
    "_reference.safetensors": from_file("_reference.safetensors", tasks.load_reference),
    "red.safetensors is no prepared task": from_file("red.safetensors", tasks.load),
    "red.safetensors holds no features": from_file("red.safetensors", frozen.load),
}


@pytest.mark.parametrize("words", READERS)
def test_a_pickle_is_refused_by_its_name_in_one_line_and_runs_nothing(tmp_path: Path, words: str) -> None:
    trace, content = tmp_path / "trace", pickle.dumps(Harmful(tmp_path / "trace"), 2)
    pickle.loads(content)  # it is one
    trace.rmdir()
    with pytest.raises(ValueError, match=words) as refused:
        READERS[words](content)(tmp_path)
    assert "\n" not in str(refused.value)
    assert not trace.exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_download_of_the_catalogue_is_https_with_a_checksum(name: str) -> None:
    for file in catalogue(name).files:
        assert file.url.startswith("https://")
        assert re.fullmatch(download.CHECKSUM, file.checksum)


PRIVATE = re.compile(
    r"/(?:home|Users|root)/\w|[A-Z]:\\+Users|AKIA[0-9A-Z]{16}|gh[pousr]_\w{20}|hf_[A-Za-z]{20}|glpat-"
    r"|xox[abp]-|BEGIN [A-Z ]*PRIVATE KEY|(?<![\w.])(?:10|192\.168|172\.16)(?:\.\d{1,3}){2,3}(?![\w.])"
)


PICTURE = re.compile('base64,[^"]+')  # in a page: its letters can look like a key


def test_nothing_that_is_committed_names_a_persons_folder_a_key_or_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True)
    named = {}
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if name == "requirements.lock" or name.startswith("tests/") or not path.exists():
            continue  # hashes alone; and tests, which name what they refuse
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(errors="ignore")
        if private := PRIVATE.search(PICTURE.sub("", text)):
            named[name] = private.group()
    assert named == {}

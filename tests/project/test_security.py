"""Nothing that is read can run something, downloads are https and checked, and what is committed tells no secrets."""

import ast
import gzip
import json
import os
import pickle
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from lib import clip
from lib.clip import tiny as tiny_clip
from lib.data import frozen as features
from lib.data import reference, tasks
from lib.report import tables
from lib.study import checkpoint, provenance
from lib.study.code_digests import cells
from lib.study.paths import ROOT
from tests.support import small_study
from tools.datasets import download
from tools.datasets.catalogue import NAMES, catalogue
from tools.miniworld import pretrain

# what runs code that it is given, and the one place of each that may
UNSAFE = {"pickle.load", "pickle.loads", "torch.load", "joblib.load", "dill.load", "os.system", "os.popen"}
UNSAFE |= {"eval", "exec", "compile", "__import__", "numpy.load", "np.load", "pd.read_pickle"}
REASONS = {
    ("tests/run_course.py", "exec"): "runs the course's own cells",
    ("tests/run_course.py", "compile"): "the same",
    ("tests/project/test_contributing.py", "exec"): "runs the example of CONTRIBUTING.md",
    ("tests/moe/test_golden.py", "np.load"): "of arrays; numpy reads no pickle unless it is told to",
    ("tests/datasets/test_cifar100.py", "pickle.loads"): "shows that its pickle does harm",
    ("tests/project/test_security.py", "pickle.loads"): "the same",
}


def calls(source: str) -> list[tuple[str, ast.Call]]:
    """Every call of a source with the dotted name that it calls."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in found]


def sources() -> dict[str, str]:
    """All Python of the project by file: modules, tests, and the code cells of notebooks."""
    files = [path for room in ("lib", "tools", "tests") for path in ROOT.glob(f"{room}/**/*.py")]
    found = {str(path.relative_to(ROOT)): path.read_text() for path in files}
    for path in ROOT.glob("notebooks/**/*.ipynb"):
        found[str(path.relative_to(ROOT))] = "\n".join(cells(path))
    return found


def test_nothing_calls_what_could_run_a_files_content() -> None:
    found = {(file, name) for file, source in sources().items() for name, _ in calls(source) if name in UNSAFE}
    assert found == set(REASONS), "a new one needs its reason; one that is gone needs none"


def test_no_call_goes_through_a_shell_or_asks_for_pickles_or_objects_in_yaml() -> None:
    for file, source in sources().items():
        for name, call in calls(source):
            words = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert name != "yaml.load" or ast.unparse(call.args[1]).endswith(("UniqueKeyLoader", "SafeLoader")), file
            assert words.get("shell", "False") == "False", f"{file}: {name}"
            assert words.get("allow_pickle", "False") == "False", f"{file}: {name}"
            assert words.get("weights_only", "True") == "True", f"{file}: {name}"


# --- a file that would do harm, at every reader


class Harmful:
    """Its pickle, when unpickled, makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def planted(file: Path, trace: Path) -> Path:
    """The file, which is a pickle that does harm."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(Harmful(trace), 2))
    return file


def a_checkpoint(home: Path, plant: Callable[[Path], Path]) -> None:
    about = checkpoint.About("s", "r", "I", 0, "b", {}, [], [], [])
    checkpoint.save(home, about, {"x": torch.zeros(1)})
    plant(home / "state.safetensors")
    checkpoint.load(home, "b", "r", {})


def what_a_checkpoint_says(home: Path, plant: Callable[[Path], Path]) -> None:
    plant(home / "about.json")
    checkpoint.load(home, "b", "r", {})


def a_result(home: Path, plant: Callable[[Path], Path]) -> None:
    plant(home / "results" / "tiny" / "finetune--I--s0.json")
    tables.read(home / "results" / "tiny")


def weights(home: Path, plant: Callable[[Path], Path]) -> None:
    clip.load_clip("ViT-B-32", str(plant(home / "weights.pt")))


def a_tiny_clip(home: Path, plant: Callable[[Path], Path]) -> None:
    tiny_clip.save(tiny_clip.build(small_study.CONFIG, 0), home, small_study.CONFIG, 0, [])
    plant(home / "tiny_clip.safetensors")
    clip.load_clip(str(home))


def a_snapshot(home: Path, plant: Callable[[Path], Path]) -> None:
    pretrain.load_snapshot(plant(home / "snapshot"), {}, torch.optim.SGD([torch.zeros(1)]))


def a_reference_set(home: Path, plant: Callable[[Path], Path]) -> None:
    reference.load(plant(home / "_reference.safetensors"))


READERS: list[tuple[Callable[..., object], str]] = [
    (a_checkpoint, "state.safetensors is damaged.*delete it and run the study again"),
    (what_a_checkpoint_says, "is no whole checkpoint.*delete it and run the study again"),
    (a_result, "finetune--I--s0.json is no whole result.*delete it and run the study again"),
    (weights, "weights.pt has no weights that fit ViT-B-32"),
    (a_tiny_clip, "holds no whole tiny CLIP.*make pretrain"),
    (a_snapshot, "snapshot cannot be read.*|the snapshot .* cannot be read"),
    (a_reference_set, "_reference.safetensors is no reference set.*the stage `tasks` makes it again"),
    (lambda home, plant: tasks.load(plant(home / "red.safetensors")), "red.safetensors is no prepared task"),
    (lambda home, plant: features.load(plant(home / "red.safetensors")), "red.safetensors holds no features"),
]


@pytest.mark.parametrize(("read", "message"), READERS)
def test_a_pickle_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[..., object], message: str
) -> None:
    trace = tmp_path / "trace"
    pickle.loads(planted(tmp_path / "proof", trace).read_bytes())  # it is one
    trace.rmdir()
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "home", lambda file: planted(file, trace))
    assert not trace.exists()


# --- downloads


@pytest.mark.parametrize("name", NAMES)
def test_every_download_of_the_catalogue_is_https_with_a_checksum(name: str) -> None:
    assert download.SCHEME == "https://"
    for file in catalogue(name).files:
        assert file.url.startswith(download.SCHEME)
        assert re.fullmatch(download.CHECKSUM, file.checksum)


# --- notebooks


def test_jupyterlab_listens_on_this_machine_alone_and_asks_for_its_token() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nlab: ")[2].partition("\n\n")[0]
    assert "jupyterlab --notebook-dir=. notebooks/" in recipe
    assert not re.search(r"--ip|--allow|token|password|--config|--no-browser", recipe)
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert not re.search(r"jupyter.*config|\.jupyter/", kept)


# --- secrets

PRIVATE = re.compile(
    r"/(?:home|Users|root)/\w|[A-Z]:\\+Users|AKIA[0-9A-Z]{16}|gh[pousr]_\w{20}|hf_[A-Za-z]{20}|glpat-"
    r"|xox[abp]-|BEGIN [A-Z ]*PRIVATE KEY|(?<![\w.])(?:10|192\.168|172\.16)(?:\.\d{1,3}){2,3}(?![\w.])"
)


def test_nothing_that_is_committed_names_a_persons_folder_a_key_or_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True)
    told = {}
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if name == "requirements.lock" or name.startswith("tests/") or not path.exists():
            continue  # hashes alone; and tests, which name what they refuse
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(errors="ignore")
        if found := PRIVATE.search(text):
            told[name] = found.group()
    assert told == {}


def test_the_origin_of_a_number_names_neither_user_nor_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "somebodys-machine")
    monkeypatch.setenv("USER", "somebody")
    origin = provenance.origin()
    assert set(origin) == {"machine", "versions", "revision"}
    assert set(origin["machine"]) == {"system", "processor", "cores"}
    assert "somebody" not in json.dumps(origin) + provenance.provenance(seed=0)


def test_params_hold_no_word_that_a_secret_would_have() -> None:
    for path in [ROOT / "params.yaml", *ROOT.glob("studies/*.yaml")]:
        names = re.findall(r"[\w-]+", json.dumps(yaml.safe_load(path.read_text())).lower())
        assert not {"password", "secret", "api_key", "apikey", "credential"} & set(names)

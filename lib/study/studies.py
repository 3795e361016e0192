"""Where things lie: the project's folders, wherever Python was started, and the studies by name.

`mini` is params.yaml; every other study is a short file studies/<name>.yaml. It holds what differs from the study that
its key `extends` names: mappings are merged key by key, and anything else, lists too, replaces what the other has. Its
key `without` lists what is first left out of the other study:

    extends: mini
    without: [runs, methods.joint]
    train: {steps: 12}
"""

from functools import reduce
from pathlib import Path
from typing import Any

from lib.settings import ParamsError
from lib.strict_yaml import read_yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DATA, REPORTS, NOTEBOOKS = ROOT / "data", ROOT / "reports", ROOT / "notebooks"


def names(root: Path = ROOT) -> list[str]:
    """The studies that there are, the default one first."""
    return ["mini", *sorted(file.stem for file in root.glob("studies/*.yaml") if file.stem != "dvc")]


def file_of(name: str, root: Path = ROOT) -> Path:
    """The file that a person edits. Raises ParamsError, with the names that exist, for an unknown study."""
    if name not in names(root):
        raise ParamsError(f"there is no study {name!r}; there are: {', '.join(names(root))}")
    return root / "params.yaml" if name == "mini" else root / "studies" / f"{name}.yaml"


def read(file: Path, extended: tuple[Path, ...] = ()) -> Any:
    """All numbers of a study's file, with those of the study that it extends; extended: the files that extend it.

    Raises ParamsError for a file that is missing, is not YAML or extends what is not there.
    """
    where = str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)
    if not file.is_file():
        raise ParamsError(f"there is no params file {where}; the studies are: {', '.join(names())}")
    raw = read_yaml(file, where)
    if not isinstance(raw, dict) or "extends" not in raw:
        return raw
    if file in extended:
        raise ParamsError(f"{where} extends itself; `extends` must lead to mini")
    base, left_out = raw.pop("extends"), raw.pop("without", [])
    if not isinstance(left_out, list):
        raise ParamsError(f"{where}: without is {left_out!r}; it must be a list of keys")
    numbers = read(file_of(base, file.parent.parent), (*extended, file))
    for key in left_out:
        *path, last = str(key).split(".")
        inner = reduce(lambda held, name: held.get(name, {}), path, numbers)
        if last not in inner:
            raise ParamsError(f"{where}: without: {key!r} is no key of {base}")
        del inner[last]
    if raw.get("study", file.stem) != file.stem:  # else it would write over another study's files
        raise ParamsError(f"{where}: study is {raw['study']!r}; leave it out, the file's name is the study's")
    return _merged(numbers, raw | {"study": file.stem})


def _merged(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return base | {key: _merged(base[key], value) if key in base else value for key, value in changes.items()}

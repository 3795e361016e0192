"""Reads YAML strictly: a key given twice, aliases that multiply, or text that is no UTF-8 is an error in one line."""

from pathlib import Path
from typing import Any

import yaml

from lib.settings import ParamsError

MOST = 100_000  # values in a YAML file, each alias counted as all that it stands for


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, except that a key given twice is an error: otherwise the last one wins silently."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written, before merges are resolved; its keys are all different."""
        node = super().compose_mapping_node(anchor)
        keys = [str(key.value) for key, _ in node.value if key.value != "<<"]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.YAMLError(f"key {', '.join(sorted(twice))} given twice{node.start_mark}")
        return node


def read_yaml(file: Path, where: str) -> Any:
    """What a YAML file holds, as plain values. Raises ParamsError, in one line that begins with `where`."""
    try:
        content = yaml.load(file.read_bytes().decode(), UniqueKeyLoader)
        size = _size(content, {})
    except OSError as error:
        raise ParamsError(f"{where} cannot be read ({error}); restore it") from error
    except RecursionError:
        raise ParamsError(f"{where} is not valid YAML: nested too deeply, or an alias inside what it names") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # also a date that does not exist, a number of 5000 digits
        raise ParamsError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    if size > MOST:
        raise ParamsError(f"{where} is too large: with its aliases it has over {MOST} values")
    return content


def _size(value: Any, sizes: dict[int, int]) -> int:
    """How many values there are in `value`; sizes: of the containers counted so far, by id."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in sizes:
        sizes[id(value)] = 1 + sum(_size(v, sizes) for v in (value.values() if isinstance(value, dict) else value))
    return sizes[id(value)]

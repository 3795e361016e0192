"""States: flat dicts of named tensors, as checkpoints keep them; put together from parts and taken apart by prefix."""

from torch import Tensor

State = dict[str, Tensor]


def joined(prefix: str, state: State) -> State:
    """The entries with a prefix before their names."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def under(prefix: str, state: State) -> State:
    """The entries whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def beside(prefix: str, state: State) -> State:
    """The entries whose names do not begin with the prefix."""
    return {name: value for name, value in state.items() if not name.startswith(prefix)}


def numbered(prefix: str, values: list[Tensor]) -> State:
    """A list as entries, from <prefix>0 on."""
    return joined(prefix, {str(number): value for number, value in enumerate(values)})


def listed(prefix: str, state: State) -> list[Tensor]:
    """The list that `numbered` wrote."""
    found = under(prefix, state)
    return [found[str(number)] for number in range(len(found))]

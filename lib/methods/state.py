"""State dicts: a method's state is one flat dict of tensors, put together from parts whose names have a prefix."""

from torch import Tensor

State = dict[str, Tensor]


def joined(prefix: str, state: State) -> State:
    """The entries, with a prefix before their names."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def under(prefix: str, state: State) -> State:
    """The entries whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def numbered(prefix: str, values: list[Tensor]) -> State:
    """A list as entries <prefix>0, <prefix>1, ..."""
    return {f"{prefix}{number}": value for number, value in enumerate(values)}


def listed(prefix: str, state: State) -> list[Tensor]:
    """The list that `numbered` wrote."""
    entries = under(prefix, state)
    return [entries[str(number)] for number in range(len(entries))]

"""State dicts by prefix: what is joined comes apart again, and lists keep their order."""

import torch

from lib.methods.state import joined, listed, numbered, under

ONE, TWO = torch.ones(1), torch.zeros(2)


def test_what_was_joined_comes_apart_again() -> None:
    state = {"model.weight": ONE} | joined("omega.", {"model.weight": TWO})
    assert under("omega.", state) == {"model.weight": TWO}
    assert under("moe.", state) == {}


def test_a_list_keeps_its_order_beyond_ten_entries() -> None:
    state = numbered("earlier.", [torch.tensor([number]) for number in range(12)]) | {"other": ONE}
    assert [int(value) for value in listed("earlier.", dict(sorted(state.items())))] == list(range(12))
    assert listed("none.", state) == []

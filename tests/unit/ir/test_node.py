"""Interning: equal nodes are one object, whatever other threads make and drop meanwhile."""
from __future__ import annotations

from collections.abc import Callable
from weakref import ref

import pytest

from pluggrad.ir.node import Node, Op, interned_count, node

OP = Op("TEST", "test", 0)


class Interrupted:
    """An argument that lets another thread go first: `other` runs when it is hashed for the `at`th time."""

    def __init__(self) -> None:
        self.at, self.other = 0, lambda: None

    def let(self, other: Callable[[], None], at: int) -> None:
        self.other, self.at = other, at

    def __hash__(self) -> int:
        self.at -= 1
        if self.at == 0:
            self.other()
        return 1


def make(arg: object) -> Node:
    return node(OP, (), arg, None)


@pytest.mark.parametrize("at", range(1, 4))
def test_two_threads_make_one_node(at):
    arg, made = Interrupted(), []
    arg.let(lambda: made.append(make(arg)), at)
    first = make(arg)
    assert all(other is first for other in made)
    assert make(arg) is first


@pytest.mark.parametrize("at", range(1, 4))
def test_a_node_made_while_its_like_is_forgotten_stays(at):
    arg, made = Interrupted(), []
    old = make(arg)
    arg.let(lambda: made.append(make(arg)), at)
    del old
    assert all(make(arg) is other for other in made)


def test_a_node_made_when_its_like_is_dead_but_not_forgotten(settled):
    before, made = interned_count(), []
    old = make(0)
    sooner = ref(old, lambda _: made.append(make(0)))  # the latest callback runs first
    del old
    assert sooner() is None
    assert make(0) is made[0]
    made.clear()
    assert interned_count() == before

"""Graphs with some nodes replaced."""
from __future__ import annotations

from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.walk import substitute

LEAF, PAIR = Op("LEAF", "leaf", 0, ""), Op("PAIR", "binary", 2, "")


def leaf(name: str) -> Node:
    return node(LEAF, (), name, None)


def pair(x: Node, y: Node) -> Node:
    return node(PAIR, (x, y), None, None)


def test_others_stand_in_place_of_some():
    a, b, c = map(leaf, "abc")
    inner = pair(a, b)
    assert substitute([pair(inner, b), inner, a], {inner: c}) == (pair(c, b), c, a)


def test_what_replaces_a_node_is_not_replaced_itself():
    a, b = map(leaf, "ab")
    assert substitute([pair(a, b)], {a: pair(a, b)}) == (pair(pair(a, b), b),)


def test_a_graph_without_them_stays_itself():
    whole = pair(leaf("a"), leaf("b"))
    assert substitute([whole], {leaf("c"): leaf("d")})[0] is whole

"""Grammar violations name op, pass and neighborhood."""
from __future__ import annotations

import pytest

from pluggrad import dtypes
from pluggrad.errors import InternalError, VerifyError
from pluggrad.ir.node import Op, node
from pluggrad.ir.opset import Grammar, anything, first_complaint
from pluggrad.ir.verify import neighborhood, verify

IN, ADD, OTHER = Op("IN", "leaf", 0), Op("ADD", "binary", 2), Op("OTHER", "leaf", 0)
GRAMMAR = Grammar("toy", {
    IN: anything,
    ADD: first_complaint(anything, lambda n: "" if n.src[0].type is n.type else f"type {n.src[0].type.name}"),
})
X = node(IN, (), 0, dtypes.int32)


def test_a_graph_that_follows_the_grammar_passes() -> None:
    verify([node(ADD, (X, X), None, dtypes.int32)], GRAMMAR, "folding")


@pytest.mark.parametrize(("bad", "text"), [
    (node(OTHER, (), None, dtypes.int32), "OTHER in the toy after folding: expected an op of the toy stage"),
    (node(ADD, (X,), None, dtypes.int32), "expected 2 sources"),
    (node(ADD, (X, X), None, dtypes.int8), "expected type int32"),
])
def test_violations(bad, text: str) -> None:  # type: ignore[no-untyped-def]  # pytest passes a node
    with pytest.raises(VerifyError, match=text) as caught:
        verify([bad], GRAMMAR, "folding")
    assert isinstance(caught.value, InternalError)


def test_the_first_violation_in_source_order_is_reported() -> None:
    inner = node(ADD, (X, X), None, dtypes.int8)
    outer = node(ADD, (inner, inner), None, dtypes.float32)
    with pytest.raises(VerifyError, match="type int32"):
        verify([outer], GRAMMAR, "folding")


def test_neighborhood_ends_two_levels_down() -> None:
    chain = [X]
    for i in range(5):
        chain.append(node(ADD, (chain[-1], node(IN, (), i, dtypes.int32)), None, dtypes.int32))
    text = neighborhood(chain[-1])
    assert text.count(" = add(") == 3
    assert text.splitlines()[-1].strip().startswith("%4 = add(")


def test_neighborhood_of_a_diamond_lists_each_node_once() -> None:
    middle = node(ADD, (X, X), None, dtypes.int32)
    assert neighborhood(node(ADD, (middle, middle), None, dtypes.int32)).count("\n") == 2

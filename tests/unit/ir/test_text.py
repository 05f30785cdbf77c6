"""Graphs of any stage as numbered lines."""
from __future__ import annotations

from dataclasses import dataclass

from pluggrad import dtypes
from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.text import arg_text, graph_text, type_text

IN, ADD, SUM = Op("IN", "leaf", 0), Op("ADD", "binary", 2), Op("SUM", "reduce", 1)


@dataclass(frozen=True)
class Shaped:
    shape: tuple[int, ...]
    dtype: dtypes.DType


def test_lines_name_sources_by_number_and_share_nodes() -> None:
    kind = Shaped((2, 3), dtypes.float32)
    x = node(IN, (), 0, kind)
    total = node(SUM, (node(ADD, (x, x), None, kind),), (0, 1), Shaped((), dtypes.float32))
    assert graph_text([total]).splitlines() == [
        "%0 = in[0]: float32[2,3]", "%1 = add(%0, %0): float32[2,3]", "%2 = sum[0, 1](%1): float32[]"]


def test_arguments_may_be_written_by_the_stage() -> None:
    x = node(IN, (), 7, dtypes.int32)
    assert graph_text([x], lambda n: f"slot {n.arg}") == "%0 = in[slot 7]: int32"


def test_argument_forms() -> None:
    assert arg_text((1,)) == "1,"
    assert arg_text(("ADD", (2, 3))) == "ADD, (2, 3)"
    assert arg_text(((0, 4, 1), (1, 2, 1))) == "(0, 4, 1), (1, 2, 1)"


def test_addresses_are_left_out() -> None:
    assert "0x" not in arg_text(object())
    assert arg_text(object()) == arg_text(object())


def test_types() -> None:
    assert type_text(dtypes.bfloat16) == "bfloat16"
    assert type_text(Shaped((), dtypes.bool_)) == "bool[]"


def test_a_long_chain_prints() -> None:
    x: Node = node(IN, (), 0, dtypes.int32)
    for _ in range(20_000):
        x = node(ADD, (x, x), None, dtypes.int32)
    assert graph_text([x]).count("\n") == 20_000

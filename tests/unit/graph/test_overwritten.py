"""Writes that cover their base do without it; others keep it."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.graph import build, ops
from pluggrad.graph.overwritten import drop_bases
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import toposort
from pluggrad.target import DeviceId

REF = DeviceId("ref")


def given(slot: int, *shape: int) -> Node:
    return node(ops.INPUT, (), slot, tensor_type(shape, dtypes.float32, REF))


def written(base: Node, *parts: tuple[tuple[int, int, int], ...]) -> Node:
    for number, part in enumerate(parts):
        value = given(number, *[size for _, size, _ in part])
        base = build.update(base, value, (("slice", part),))
    return base


def zeros(*shape: int) -> Node:
    return build.const(0, dtypes.float32, REF, shape)


def has_base(*roots: Node) -> bool:
    return all(n.op is not ops.EMPTY for n in toposort(drop_bases(roots)))


ROWS = (((0, 2, 1), (0, 5, 1)), ((2, 3, 1), (0, 5, 1)))
SQUARES = tuple([((i, 2, 2), (j, 3, 2)) for i in range(2) for j in range(2)])


def test_rows_that_cover_their_base() -> None:
    assert not has_base(written(zeros(5, 5), *ROWS))


def test_every_other_row_and_column() -> None:
    assert not has_base(written(zeros(4, 6), *SQUARES))


@pytest.mark.parametrize("parts", [ROWS[:1], SQUARES[:3], (ROWS[0], ((1, 3, 1), (0, 5, 1))),
                                   (((0, 3, 2), (0, 5, 1)), ((0, 2, 1), (0, 5, 1)))],
                         ids=["missing", "a corner missing", "overlapping", "meeting steps"])
def test_what_is_not_covered_keeps_its_base(parts: tuple[tuple[tuple[int, int, int], ...], ...]) -> None:
    shape = (4, 6) if parts[0][0][2:] == (2,) and parts[0][1][2] == 2 else (5, 5)
    assert has_base(written(zeros(*shape), *parts))


def test_a_base_that_is_seen_halfway_stays() -> None:
    half = written(zeros(5, 5), ROWS[0])
    assert has_base(half, written(half, ROWS[1]))


def test_two_of_one_shape_have_memory_of_their_own() -> None:
    x, y = Tensor(np.ones((3, 4), np.float32)), Tensor(np.zeros((3, 4), np.float32))
    both = [Tensor.cat(x, y), Tensor.cat(y, x)]
    Tensor.realize(*both)
    np.testing.assert_array_equal(both[0].numpy(), both[1].numpy()[::-1])


def test_an_input_is_written_over_in_place() -> None:
    assert has_base(written(given(7, 5, 5), *ROWS))


def brought(base: Node, length: int, *, unique: bool = True, mode: ops.Mode = "SET") -> Node:
    index = node(ops.INPUT, (), 7, tensor_type((length,), dtypes.int32, REF))
    return build.scatter(base, index, given(0, length), 0, mode, (), None, unique=unique)


def test_an_element_brought_to_each_place_leaves_nothing_of_the_base() -> None:
    assert not has_base(brought(zeros(6), 6))


def test_fewer_elements_or_meeting_or_combined_ones_leave_something() -> None:
    assert has_base(brought(zeros(6), 5))
    assert has_base(brought(zeros(6), 6, unique=False))
    assert has_base(brought(zeros(6), 6, mode="ADD"))

"""Factors that stay in bfloat16 in memory."""
from __future__ import annotations

import pytest

from pluggrad import Tensor, dtypes
from pluggrad.graph import build, ops
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, node
from pluggrad.runtime.normalize import normalize, rebuild
from pluggrad.schedule import schedule
from pluggrad.target import DeviceId, Narrow

REF = DeviceId("ref")


def product(m: int, k: int, n: int) -> Node:
    """What `a @ b` of two bfloat16 matrices comes to, summed up in float32; `a` is rounded from float32."""
    given = node(ops.INPUT, (), 0, tensor_type((m, k), dtypes.float32, REF))
    a = build.cast(build.cast(given, dtypes.bfloat16), dtypes.float32)
    b = build.cast(node(ops.INPUT, (), 1, tensor_type((k, n), dtypes.bfloat16, REF)), dtypes.float32)
    rows = build.expand(build.reshape(a, (m, 1, k)), (m, n, k))
    columns = build.expand(build.reshape(build.permute(b, (1, 0)), (1, n, k)), (m, n, k))
    return build.reduce(ops.SUM, build.binary(ops.MUL, rows, columns), (2,))


def stored(root: Node, *narrow: str, gathered: tuple[str, ...] = ()) -> list[str]:
    regions = schedule([root], narrow=Narrow(frozenset({*narrow, *gathered}), frozenset(gathered)))
    return [output.dtype.name for region in regions for output in region.outputs]


def test_factors_are_widened_beforehand_where_they_are_multiplied_one_by_one():
    assert sorted(stored(product(128, 128, 128))) == ["float32"] * 3


def test_factors_stay_narrow_where_pairs_are_multiplied():
    assert sorted(stored(product(128, 128, 128), "bfloat16")) == ["bfloat16", "float32"]


def convolution(channels: int, outer: int, groups: int = 1) -> Node:
    """What windows of padded bfloat16 images by weights come to."""
    shapes = (4, channels, 16, 16), (outer, channels // groups, 3, 3)
    x, w = [Tensor.zeros(shape, dtype="bfloat16", device="ref").realize() for shape in shapes]
    return rebuild(normalize([x.conv2d(w, padding=1, groups=groups).node]))[0]


def test_a_convolution_gathers_its_factors_as_they_are_where_a_unit_takes_them():
    wide = stored(convolution(32, 32), "bfloat16")
    assert sorted(wide) == ["bfloat16", "float32", "float32"]
    assert stored(convolution(32, 32), gathered=("bfloat16",)) == ["bfloat16"]
    assert stored(convolution(64, 64, groups=2), gathered=("bfloat16",)) == ["bfloat16"]


@pytest.mark.parametrize("sizes", [(64, 8), (128, 128, 128)], ids=["few rows", "a channel each"])
def test_a_convolution_that_no_unit_takes_stays_as_it_was(sizes):
    assert stored(convolution(*sizes), gathered=("bfloat16",)) == stored(convolution(*sizes))


@pytest.mark.parametrize("size", [(64, 64, 64), (8, 1024, 1024)], ids=["small", "few rows"])
def test_so_little_work_stays_as_it_was(size):
    assert stored(product(*size), "bfloat16") == stored(product(*size))

"""The door of the graph: interning, exact folding, and what it refuses."""

from __future__ import annotations

import gc
import math

import pytest

from pluggrad import dtypes
from pluggrad.errors import DTypeError, MixedDevices, ShapeError
from pluggrad.graph import build, ops
from pluggrad.graph.leaf import Identity
from pluggrad.graph.scalar import HostValue, scalar
from pluggrad.ir.node import interned_count
from pluggrad.target import DeviceId
from tests.graph_reference import evaluate

HERE, THERE = DeviceId("here"), DeviceId("there")


def const(value, shape=(), dtype=dtypes.float32):
    return build.const(value, dtype, HERE, shape)


def opaque(*shape, dtype=dtypes.float32):
    """A node that does not fold."""
    return build.leaf(const(1, shape, dtype), Identity())


def test_equal_nodes_are_one_object():
    x = opaque(2, 3)
    assert build.unary(ops.EXP, x) is build.unary(ops.EXP, x)
    assert const(0.5, (2,)) is const(0.5, (2,))
    assert opaque(2) is not opaque(2)


def test_constants_that_compare_equal_but_differ_stay_apart():
    assert const(0.0) is not const(-0.0)
    assert math.copysign(1, const(-0.0).arg.python) == -1
    assert const(math.nan) is const(float("nan"))
    assert const(1) is const(1.0)
    assert const(True, dtype=dtypes.bool_) is not const(1)


def test_unused_nodes_are_forgotten():
    gc.collect()
    before = interned_count()
    x = opaque(7)
    for _ in range(100):
        x = build.unary(ops.NEG, x)
    assert interned_count() == before + 102
    del x
    gc.collect()
    assert interned_count() == before


def test_movement_of_movement_folds():
    x = opaque(2, 3, 4)
    assert build.reshape(build.reshape(x, (6, 4)), (24,)).src[0] is x
    assert build.reshape(build.reshape(x, (6, 4)), (2, 3, 4)) is x
    assert build.permute(build.permute(x, (2, 0, 1)), (1, 2, 0)) is x
    assert build.permute(build.permute(x, (1, 0, 2)), (2, 1, 0)).arg == (2, 0, 1)
    assert build.expand(x, (2, -1, 4)) is x
    assert build.slice(x, ((0, 2, 1), (0, 3, 1), (0, 4, 1))) is x
    assert build.flip(x, ()) is x
    assert build.pad(x, ((0, 0),) * 3) is x
    assert build.reduce(ops.SUM, x, ()) is x
    assert build.permute(const(2, (3, 4)), (1, 0)) is const(2, (4, 3))


def test_casts_fold():
    x = opaque(2)
    assert build.cast(x, dtypes.float32) is x
    assert build.cast(const(2.7), dtypes.int32) is const(2, dtype=dtypes.int32)
    assert build.cast(const(-1.0), dtypes.uint8).arg.python == 0
    assert build.cast(const(math.nan), dtypes.int32).arg.python == 0
    reading = HostValue(3).read()
    assert build.cast(const(reading), dtypes.float64).op is ops.CAST


def test_identities_do_not_pile_up():
    x = build.unary(ops.EXP, opaque(2))
    assert build.detach(build.detach(x)) is build.detach(x)
    assert build.contiguous(build.contiguous(x)) is build.contiguous(x)
    assert build.copy(x, HERE) is x


def test_host_values_remember_how_they_were_read():
    def halved(value):
        return value / 2

    rate = HostValue(8.0, "rate")
    read = rate.read(halved)
    found = scalar(read, dtypes.float32)
    assert found.value == 4.0
    rate.value = 2.0
    assert found.source.at(rate.value) == 1.0
    assert found.value == 4.0


def test_binary_promotes_and_broadcasts():
    result = build.binary(ops.ADD, opaque(3, 1), opaque(2, dtype=dtypes.int32))
    assert result.shape == (3, 2)
    assert result.dtype is dtypes.float32
    compared = build.binary(ops.LT, opaque(2, dtype=dtypes.uint8), opaque(2, dtype=dtypes.int8))
    assert compared.dtype is dtypes.bool_
    assert compared.src[0].dtype is dtypes.int16


def test_update_checks_and_casts():
    base, value = opaque(3, 4), opaque(2, dtype=dtypes.int32)
    view = (("slice", ((0, 3, 1), (1, 2, 2))),)
    updated = build.update(base, value, view)
    assert updated.type is base.type
    assert updated.src[1].shape == (3, 2)
    assert updated.src[1].dtype is dtypes.float32
    assert evaluate(build.update(const(0, (3, 4)), const(5), view)).tolist() == [[0, 5, 0, 5]] * 3
    with pytest.raises(ShapeError, match="setitem"):
        build.update(base, opaque(5), view)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: build.unary(ops.EXP, opaque(2, dtype=dtypes.int32)),
            DTypeError,
            "exp: expected a float dtype",
        ),
        (lambda: build.binary(ops.SHL, opaque(2), opaque(2)), DTypeError, "shl: expected an integer dtype"),
        (lambda: build.binary(ops.AND, opaque(2), opaque(2)), DTypeError, "and"),
        (lambda: build.unary(ops.NEG, opaque(2, dtype=dtypes.bool_)), DTypeError, "neg"),
        (lambda: build.iota(3, dtypes.float32, HERE), DTypeError, "arange"),
        (lambda: build.bitcast(opaque(2), dtypes.float64), DTypeError, "bitcast"),
        (lambda: build.where(opaque(2), opaque(2), opaque(2)), DTypeError, "where"),
        (lambda: build.slice(opaque(3), ((1, 3, 1),)), ShapeError, "slice"),
        (lambda: build.pad(opaque(3), ((-1, 0),)), ShapeError, "pad"),
        (lambda: build.permute(opaque(2, 3), (0, 0)), ShapeError, "permute"),
        (lambda: build.reduce(ops.RMAX, opaque(0, 3), 0), ShapeError, "max"),
        (
            lambda: build.binary(ops.ADD, opaque(2), build.const(1, dtypes.float32, THERE, (2,))),
            MixedDevices,
            "add: .*here and there",
        ),
    ],
)
def test_what_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()

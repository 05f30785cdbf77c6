"""Rows of methods that select, sort and count."""

from __future__ import annotations

import numpy as np

from pluggrad import Tensor
from pluggrad.errors import AxisError, DTypeError, ShapeError, ValueRangeError
from tests.unit.api.rows import Row, chances, exactly, integers, uniform

AT = ([[0, 2, 1], [1, 1, 0]],)


def put(x, index, value, ufunc=None):
    """NumPy's scatter along axis 0, one after another."""
    y = x.copy()
    for i, j in np.ndindex(index.shape):
        to = (index[i, j], j)
        y[to] = value[i, j] if ufunc is None else ufunc(y[to], value[i, j])
    return y


def scatter(name, reference, call, **fields):
    return Row(
        name,
        reference,
        (uniform(3, 3), exactly(AT[0]), uniform(2, 3)),
        call=call,
        order=1,
        error=lambda x, i, v: call(x, i.float(), v),
        raises=DTypeError,
        **fields,
    )


ROWS = [
    Row(
        "gather",
        lambda x, i: np.take_along_axis(x, i, 0),
        (uniform(3, 3), exactly(AT[0])),
        call=lambda x, i: x.gather(0, i),
        error=lambda x, i: x.gather(0, i.float()),
        raises=DTypeError,
    ),
    Row(
        "take_along_dim",
        lambda x, i: np.take_along_axis(x, i, 0),
        (uniform(3, 3), exactly(AT[0])),
        call=lambda x, i: x.take_along_dim(i, 0),
        error=lambda x, i: x.take_along_dim(i.float(), 0),
        raises=DTypeError,
    ),
    scatter("scatter", lambda x, i, v: put(x, i, v), lambda x, i, v: x.scatter(0, i, v)),
    scatter("scatter_add", lambda x, i, v: put(x, i, v, np.add), lambda x, i, v: x.scatter_add(0, i, v)),
    scatter(
        "scatter_reduce",
        lambda x, i, v: put(x, i, v, np.maximum),
        lambda x, i, v: x.scatter_reduce(0, i, v, "amax"),
    ),
    Row(
        "index_select",
        lambda x, i: x[:, i],
        (uniform(2, 3), exactly([2, 0, 2])),
        call=lambda x, i: x.index_select(1, i),
        error=lambda x, i: x.index_select(9, i),
        raises=AxisError,
    ),
    Row(
        "index_add",
        lambda x, i, v: put(x, np.stack([i, i, i], 1), v, np.add),
        (uniform(3, 3), exactly([2, 0]), uniform(2, 3)),
        call=lambda x, i, v: x.index_add(0, i, v),
        error=lambda x, i, v: x.index_add(0, i.float(), v),
        raises=DTypeError,
    ),
    Row(
        "index_put",
        lambda x, v: put(x, np.array([[2, 2, 2]]), v),
        (uniform(3, 3), uniform(1, 3)),
        call=lambda x, v: x.index_put((Tensor([2]),), v),
        error=lambda x, v: x.index_put((Tensor([0.5]),), v),
        says="index",
    ),
    Row(
        "take",
        lambda x, i: x.ravel()[i],
        (uniform(3, 3), exactly([8, 0, 3])),
        error=lambda x, i: x.take(i.float()),
        raises=DTypeError,
    ),
    Row(
        "masked_select",
        lambda x, m: x[m],
        (uniform(2, 3), chances(2, 3)),
        error=lambda x, m: x.masked_select(x),
        raises=DTypeError,
    ),
    Row(
        "nonzero",
        lambda x: np.argwhere(x),
        (exactly([[1.0, 0.0], [0.0, 2.0]]),),
        result="int64",
        gradient=False,
        error=lambda x: x.nonzero(size=-1),
    ),
    Row(
        "sort",
        lambda x: (np.sort(x, 1), np.argsort(x, 1)),
        (uniform(2, 5),),
        ints="same",
        order=1,
        error=lambda x: x.sort(9),
        raises=AxisError,
    ),
    Row(
        "argsort",
        lambda x: np.argsort(x, 1),
        (uniform(2, 5),),
        result="int32",
        ints="int32",
        gradient=False,
        error=lambda x: x.argsort(9),
        raises=AxisError,
    ),
    Row(
        "topk",
        lambda x: (-np.sort(-x, 1)[:, :3], np.argsort(-x, 1)[:, :3]),
        (uniform(2, 5),),
        call=lambda x: x.topk(3),
        ints="same",
        order=1,
        error=lambda x: x.topk(9),
    ),
    Row(
        "unique",
        np.unique,
        (exactly([3.0, 1.0, 4.0, 2.0]),),
        ints="same",
        raises=TypeError,
        says="no_such_argument",
    ),
    Row(
        "bincount",
        lambda x: np.bincount(x, minlength=12),
        (integers(7),),
        call=lambda x: x.bincount(minlength=12),
        result="",
        gradient=False,
        error=lambda x: x.float().bincount(),
        raises=ShapeError,
    ),
    Row(
        "searchsorted",
        np.searchsorted,
        (exactly([0.0, 1.0, 2.0]), uniform(4, high=3)),
        result="int64",
        gradient=False,
        error=lambda x, y: x.expand(5, 3).searchsorted(y),
        raises=ShapeError,
    ),
    Row(
        "bucketize",
        lambda x: np.searchsorted([0.0, 1.0], x),
        (uniform(4, high=3),),
        call=lambda x: x.bucketize([0.0, 1.0]),
        result="int64",
        gradient=False,
        error=lambda x: x.bucketize([2.0, 1.0]),
        raises=ValueRangeError,
    ),
    Row(
        "embedding",
        lambda w, i: w[i],
        (uniform(5, 3), integers(2, 2, high=5)),
        call=lambda w, i: i.embedding(w),
        error=lambda w, i: i.float().embedding(w),
        raises=DTypeError,
    ),
]

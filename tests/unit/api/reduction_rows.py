"""Rows of reductions and scans."""

from __future__ import annotations

import numpy as np
from scipy import special

from pluggrad.errors import AxisError
from tests.unit.api.rows import Row, uniform

SHAPE = (3, 4)


def reduce(name, reference, ints="float32", shape=SHAPE, **fields):
    """Over axis 1 of floats that differ."""
    fields = {
        "call": lambda x: getattr(x, name)(axis=1),
        "error": lambda x: getattr(x, name)(axis=9),
        "raises": AxisError,
    } | fields
    return Row(name, reference, (uniform(*shape, low=0.5, high=2),), ints=ints, **fields)


def scan(name, reference, axis="axis", **fields):
    fields = {
        "call": lambda x: getattr(x, name)(1),
        "error": lambda x: getattr(x, name)(9),
        "raises": AxisError,
    } | fields
    return Row(name, reference, (uniform(*SHAPE, low=0.5, high=2),), **fields)


def running(extreme, argument):
    """Values and indices of a running extreme along axis 1."""

    def reference(x):
        values = extreme.accumulate(x, 1)
        return values, np.stack([argument(x[:, : i + 1], 1) for i in range(x.shape[1])], 1)

    return reference


ROWS = [
    reduce("sum", lambda x: x.sum(1), ints="same"),
    reduce("prod", lambda x: x.prod(1), ints="same"),
    reduce("max", lambda x: x.max(1), ints="same"),
    reduce("min", lambda x: x.min(1), ints="same"),
    reduce("mean", lambda x: x.mean(1)),
    reduce("var", lambda x: x.var(1, ddof=1)),
    reduce("std", lambda x: x.std(1, ddof=1)),
    reduce("var_mean", lambda x: (x.var(1, ddof=1), x.mean(1))),
    reduce("std_mean", lambda x: (x.std(1, ddof=1), x.mean(1))),
    reduce("any", lambda x: x.any(1), ints="bool", result="bool", gradient=False),
    reduce("all", lambda x: x.all(1), ints="bool", result="bool", gradient=False),
    reduce("argmax", lambda x: x.argmax(1), ints="int32", result="int32", gradient=False),
    reduce("argmin", lambda x: x.argmin(1), ints="int32", result="int32", gradient=False),
    reduce("logsumexp", lambda x: special.logsumexp(x, 1)),
    reduce("count_nonzero", lambda x: np.count_nonzero(x, 1), ints="int32", result="int32", gradient=False),
    reduce(
        "median",
        lambda x: np.median(x, 1),
        shape=(3, 5),
        call=lambda x: x.median(1)[0],
        ints="same",
        error=lambda x: x.median(9),
    ),
    reduce(
        "quantile",
        lambda x: np.quantile(x, 0.3, axis=1),
        call=lambda x: x.quantile(0.3, 1),
        ints="refused",
        error=lambda x: x.quantile(1.5),
        raises=Exception,
    ),
    reduce(
        "norm", lambda x: np.sqrt((x * x).sum(1)), call=lambda x: x.norm(dim=1), error=lambda x: x.norm(dim=9)
    ),
    scan("cumsum", lambda x: x.cumsum(1), ints="same"),
    scan("cumprod", lambda x: x.cumprod(1), ints="same"),
    scan("cummax", running(np.maximum, np.argmax), ints="same", order=1),
    scan("cummin", running(np.minimum, np.argmin), ints="same", order=1),
    scan("logcumsumexp", lambda x: np.log(np.exp(x).cumsum(1)), ints="float32"),
]

"""Operands that show what an op gets wrong: edge values in every pairing, then numbers at random."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from pluggrad.dtypes import DType
from pluggrad.testing.conformance.reference import Array, rounded

Random = np.random.Generator


class Sizes(tuple[int, ...]):
    """A shape whose text, a part of a test's id, has no spaces: 3x17."""

    def __str__(self) -> str:
        return "x".join(map(str, self))


TRANSPOSED: Final = ("none", "a", "b", "both")  # which operands of a product lie the other way round


def stored_shapes(size: Sizes, transposed: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """The shapes in memory of the operands of (m, k) by (k, n); size: m, n, k."""
    m, n, k = size
    left = (k, m) if transposed in ("a", "both") else (m, k)
    return left, (n, k) if transposed in ("b", "both") else (k, n)


def as_multiplied(a: Any, b: Any, transposed: str) -> tuple[Any, Any]:
    """Operands, arrays or tensors, as (m, k) and (k, n)."""
    return a.T if transposed in ("a", "both") else a, b.T if transposed in ("b", "both") else b


_INF, _NAN = math.inf, math.nan
_FLOATS: Final = (0.0, -0.0, _NAN, _INF, -_INF, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.3)
_POWERS: Final = (0.0, -0.0, _NAN, _INF, -_INF, 1.0, -1.0, 0.5, 2.0, -2.0, 3.0, -3.0)
_DIVISORS: Final = (0.25, -0.5, 1.0, -1.0, 2.0, 4.0, 0.0, -0.0, _INF, -_INF, _NAN)
_LARGEST: Final = 6.0  # functions of larger numbers would be at the mercy of their argument's rounding


def seeded(*names: str) -> Random:
    """A generator of its own for each test, the same in every process."""
    return np.random.default_rng(list("/".join(names).encode()))


def integer_edges(dtype: DType) -> list[int]:
    """Numbers at the ends of an integer dtype and around 0."""
    low, high = int(dtype.min), int(dtype.max)
    around = [0, 1, 2, 3, high, high - 1, low, low + 1, high // 2]
    return list(dict.fromkeys([*around, -1] if dtype.kind == "i" else around))


def edges(dtype: DType, family: str = "general") -> Array:
    """The edge values of a dtype."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.is_int:
        return np.array(integer_edges(dtype), dtype.numpy)
    return rounded(_POWERS if family == "power" else _FLOATS, dtype)


def _general(rng: Random, count: int, dtype: DType) -> Array:
    """Whole range of integers, half of them small; floats from -6 to 6, half of them of any magnitude."""
    if dtype.kind == "b":
        return rng.integers(0, 2, count).astype(bool)
    if dtype.is_int:
        wide = rng.integers(int(dtype.min), int(dtype.max), count, dtype.numpy, endpoint=True)
        near = rng.integers(max(int(dtype.min), -5), 6, count).astype(dtype.numpy)
        return np.where(rng.random(count) < 0.5, wide, near)
    near = rng.uniform(-_LARGEST, _LARGEST, count)
    wide = np.exp(rng.uniform(math.log(1e-3), math.log(_LARGEST), count)) * rng.choice([-1, 1], count)
    return rounded(np.where(rng.random(count) < 0.5, near, wide), dtype)


def _counts(rng: Random, count: int, dtype: DType) -> Array:
    """Shift counts and exponents, some below 0 and some beyond the width."""
    low = -3 if dtype.kind == "i" else 0
    return rng.integers(low, min(dtype.bits + 4, int(dtype.max)), count).astype(dtype.numpy)


def _quarters(rng: Random, count: int, dtype: DType) -> Array:
    """Floats whose remainders are exact in every dtype."""
    return rounded(rng.integers(-63, 64, count) / 4, dtype)


def _divisors(rng: Random, count: int, dtype: DType) -> Array:
    return rounded(rng.choice(_DIVISORS, count), dtype)


def _bases(rng: Random, count: int, dtype: DType) -> Array:
    return rounded(np.exp(rng.uniform(-2.3, 2.3, count)), dtype)


def _exponents(rng: Random, count: int, dtype: DType) -> Array:
    return rounded(rng.uniform(-4, 4, count), dtype)


_FAMILIES: Final[Mapping[str, tuple[Callable[[Random, int, DType], Array], ...]]] = {
    "general": (_general, _general), "count": (_general, _counts), "modulo": (_quarters, _divisors),
    "power": (_bases, _exponents)}


def family_of(op: str, dtype: DType) -> str:
    """The family of operands that an op takes; ops of one family can share them."""
    if dtype.is_int:
        return "count" if op in ("SHL", "SHR", "POW") else "general"
    return {"MOD": "modulo", "POW": "power"}.get(op, "general")


def pairs(family: str, dtype: DType, count: int, rng: Random) -> tuple[Array, Array]:
    """Two operands of `count` elements: each edge with each, as far as there is room, then at random."""
    x, y = [function(rng, count, dtype) for function in _FAMILIES[family]]
    if family in ("general", "power"):
        special = edges(dtype, family)
        room = min(count, special.size ** 2)
        x[:room], y[:room] = np.repeat(special, special.size)[:room], np.tile(special, special.size)[:room]
    return x, y


def columns(family: str, dtype: DType, rows: int, cols: int, rng: Random) -> tuple[Array, Array]:
    """Operands that meet in a table of rows and columns: edges first, then at random."""
    found: list[Any] = []
    for function, count in zip(_FAMILIES[family], (rows, cols), strict=True):
        values = function(rng, count, dtype)
        special = edges(dtype, family)[:count] if family in ("general", "power") else values[:0]
        values[:special.size] = special
        found.append(values)
    return found[0], found[1]


def plain(dtype: DType, shape: tuple[int, ...], rng: Random) -> Array:
    """Numbers at random, edges among them: for what moves values and leaves them alone."""
    values = _general(rng, math.prod(shape), dtype)
    special = edges(dtype)
    places = rng.permutation(values.size)[:special.size]
    values[places] = special[:places.size]
    return values.reshape(shape)


def summable(dtype: DType, shape: tuple[int, ...], rng: Random) -> Array:
    """Numbers whose sums stay within every dtype; integers of the whole range, since sums wrap."""
    if not dtype.is_float:
        return _general(rng, math.prod(shape), dtype).reshape(shape)
    return rounded(rng.uniform(-2, 2, shape), dtype)


def near_one(dtype: DType, shape: tuple[int, ...], rng: Random) -> Array:
    """Numbers whose products stay within every dtype."""
    if not dtype.is_float:
        return summable(dtype, shape, rng)
    return rounded(np.exp(rng.uniform(-0.05, 0.05, shape)), dtype)

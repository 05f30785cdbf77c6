"""Scalars of the graph, and host values that a replay reads anew.

A CONST node's argument is a `Scalar`. Where the number comes from a `HostValue` (a learning rate, a step
count, the position of the random stream) the Scalar remembers how it was read, so that a captured function
can read it again.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from pluggrad.dtypes import DType, cast_scalar
from pluggrad.dtypes import Scalar as PythonScalar

Derive = Callable[..., PythonScalar]  # of as many numbers as host values are read


reading: Callable[[HostRead], None] | None = None  # told of every read while a function is captured


class HostValue:
    """A number on the host that graphs read by value and replays read anew. `name` is for people.

    counts: a captured function may add to it, and its replays add as much; others it must leave alone.
    """

    __slots__ = ("value", "name", "counts")

    def __init__(self, value: PythonScalar, name: str = "", *, counts: bool = False) -> None:
        self.value, self.name, self.counts = value, name, counts

    def read(self, derive: Derive | None = None) -> HostRead:
        """The present value (through `derive`, a pure function computed in double on the host) and how to
        read it again. Pass the same function object each time: graphs that differ in it do not share a
        plan."""
        return read((self,), derive)


class HostRead(NamedTuple):
    """One reading of host values: which, through what, and what they were then."""

    hosts: tuple[HostValue, ...]
    derive: Derive | None
    seen: tuple[PythonScalar, ...]

    def at(self, *values: PythonScalar) -> PythonScalar:
        """What this reading gives when the host values are `values`."""
        return values[0] if self.derive is None else self.derive(*values)


def read(hosts: tuple[HostValue, ...], derive: Derive | None) -> HostRead:
    """The present values, as one number: `derive` of all, None for the value of the only one.

    As for `HostValue.read`, which is the case of one.
    """
    found = HostRead(hosts, derive, tuple([host.value for host in hosts]))
    if reading is not None:
        reading(found)
    return found


class Scalar(NamedTuple):
    """A value as it stands in a CONST node; `negative_zero` tells -0.0 from 0.0, which compare equal.

    `fixed`: part of the code, never a run-time value (a shift count, say, that pluggrad itself put there).
    """

    value: PythonScalar
    negative_zero: bool = False
    source: HostRead | None = None
    fixed: bool = False

    @property
    def python(self) -> PythonScalar:
        return -0.0 if self.negative_zero else self.value


def scalar(value: PythonScalar | HostRead, dtype: DType) -> Scalar:
    """The Scalar of a Python value (or of a reading) in `dtype`."""
    source = value if isinstance(value, HostRead) else None
    given = source.at(*source.seen) if source is not None else value
    if given.__class__ is float and given and given == given and dtype.kind == "f":
        return Scalar(given, False, source)
    number = cast_scalar(given, dtype)  # type: ignore[arg-type]
    if not isinstance(number, float):
        return Scalar(number, False, source)
    if math.isnan(number):
        return Scalar(math.nan, False, source)  # one NaN object, so that tuples of it compare equal
    if number == 0.0:
        return Scalar(0.0, math.copysign(1.0, number) < 0, source)
    return Scalar(number, False, source)


class ValueSlot(NamedTuple):
    """Stands for a Scalar in a normalized graph: run-time value `slot`."""

    slot: int

"""Variable: an integer that a captured function takes anew at each call, without being captured again."""
from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any, Final, NamedTuple

from pluggrad import dtypes
from pluggrad.errors import DTypeError, JitError, TensorIndexError, ValueRangeError
from pluggrad.graph import build, ops, scalar
from pluggrad.graph.scalar import HostRead, HostValue
from pluggrad.ir.node import Node
from pluggrad.target import DeviceId

OP: Final = "getitem"
_hosts: Final[dict[Variable, HostValue]] = {}


@dataclass(frozen=True, slots=True)
class Variable:
    """An integer from `min_val` to `max_val`, both included; variables of one name and range are equal.

    `bind` gives it a value. A bound variable is a number in arithmetic with tensors, and an index or the
    start of a slice of a fixed size: `x[v]`, `x[v:v + 4]`, also to write to. A captured function (`jit`) that
    is given bound variables as arguments is captured once, and reads their values anew at each call. Shapes
    are static: what needs a Python integer there, a size or an `if`, raises JitError.

        position = Variable("position", 0, 15)
        rows = jit(lambda table, at: table[at:at + 2].sum(0))
        for i in range(16):
            rows(table, position.bind(i))
    """

    name: str
    min_val: int
    max_val: int

    def __post_init__(self) -> None:
        if self.min_val > self.max_val:
            raise ValueRangeError(op="Variable", expected="min_val <= max_val",
                                  got=f"{self.min_val} and {self.max_val}")

    def bind(self, value: int) -> BoundVariable:
        """The variable with a value; ValueRangeError unless it lies within the range."""
        try:
            number = index(value)
        except TypeError as error:
            raise DTypeError(op="Variable.bind", expected="an integer", got=repr(value)) from error
        if not self.min_val <= number <= self.max_val:
            raise ValueRangeError(op="Variable.bind", got=str(number),
                                  expected=f"{self.name} in [{self.min_val}, {self.max_val}]")
        return BoundVariable(self, number)


@dataclass(frozen=True, slots=True)
class _Affine:
    """What is computed from a variable: equal where its parts are, so that graphs share their plans."""

    factor: int
    offset: int

    def __call__(self, value: int, /) -> int:
        return value * self.factor + self.offset


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BoundVariable:
    """A variable with a value, times a factor, plus an offset. bound: None inside a captured function."""

    variable: Variable
    bound: int | None
    factor: int = 1
    offset: int = 0

    @property
    def val(self) -> int:
        """The value; JitError inside a captured function, where every call has another."""
        return index(self)

    @property
    def range(self) -> tuple[int, int]:
        """The smallest and the largest value that it can have."""
        ends = [end * self.factor + self.offset for end in (self.variable.min_val, self.variable.max_val)]
        return min(ends), max(ends)

    def __index__(self) -> int:
        if self.bound is None:
            raise JitError(op=f"Variable {self.variable.name}", got="a use as a Python integer, or in an if",
                           expected="an index, the start of a slice or a number in arithmetic with tensors",
                           hint="Shapes and branches are fixed when a function is captured")
        return self.bound * self.factor + self.offset

    __int__ = __index__

    def __bool__(self) -> bool:
        return bool(index(self))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BoundVariable):
            return self._parts() == other._parts()
        return isinstance(other, int) and index(self) == other

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[Any, ...]:
        return self.variable, self.bound, self.factor, self.offset

    def __lt__(self, other: int) -> bool:
        return index(self) < other

    def __le__(self, other: int) -> bool:
        return index(self) <= other

    def __gt__(self, other: int) -> bool:
        return index(self) > other

    def __ge__(self, other: int) -> bool:
        return index(self) >= other

    def __repr__(self) -> str:
        value = "?" if self.bound is None else index(self)
        parts = f"{self.factor}*" * (self.factor != 1), f"{self.offset:+}" * (self.offset != 0)
        return f"<{parts[0]}{self.variable.name}{parts[1]} = {value}>"

    def read(self) -> int | HostRead:
        """The value as a graph takes it: inside a captured function to be read anew by each replay."""
        if self.bound is not None:
            return index(self)
        return scalar.read((_host(self.variable),), _Affine(self.factor, self.offset))

    # ---- arithmetic with integers; that with tensors is the tensor's business ------------------------------
    def _with(self, factor: int, offset: int) -> BoundVariable:
        return BoundVariable(self.variable, self.bound, factor, offset)

    def __add__(self, other: object) -> BoundVariable:
        return self._with(self.factor, self.offset + other) if isinstance(other, int) else NotImplemented

    def __sub__(self, other: object) -> BoundVariable:
        return self + -other if isinstance(other, int) else NotImplemented

    def __mul__(self, other: object) -> BoundVariable:
        if not isinstance(other, int):
            return NotImplemented
        return self._with(self.factor * other, self.offset * other)

    def __neg__(self) -> BoundVariable:
        return self * -1

    def __rsub__(self, other: object) -> BoundVariable:
        return -self + other if isinstance(other, int) else NotImplemented

    __radd__, __rmul__ = __add__, __mul__

    # ---- captured functions --------------------------------------------------------------------------------
    def unbound(self) -> BoundVariable:
        """As a captured function sees it, whatever the value of the call."""
        return BoundVariable(self.variable, None, self.factor, self.offset)

    def give(self) -> None:
        """Let captured functions read this value."""
        if self.bound is not None:
            _host(self.variable).value = self.bound


def _host(variable: Variable) -> HostValue:
    return _hosts.setdefault(variable, HostValue(variable.min_val, variable.name))


class Window(NamedTuple):
    """Where a bound variable selects: the axis of a view, the first position, how many.

    size: None for one, which removes the axis.
    """

    axis: int
    start: BoundVariable
    size: int | None


def has_variables(key: Any) -> bool:
    """Whether an index into a tensor holds bound variables."""
    return any(isinstance(end, BoundVariable) for entry in (key if isinstance(key, tuple) else (key,))
               for end in ((entry.start, entry.stop) if isinstance(entry, slice) else (entry,)))


def without_variables(key: Any, rank: int) -> tuple[tuple[Any, ...], list[Window]]:
    """The key of a view with all of those axes that variables select along, and how they do."""
    entries = key if isinstance(key, tuple) else (key,)
    taken = sum(entry is not None and entry is not Ellipsis for entry in entries)
    rest: list[Any] = []
    windows = []
    axis = 0
    for entry in entries:
        window = _window(entry, axis)
        if window is not None:
            windows.append(window)
            entry = slice(None)
        elif not (entry is None or entry is Ellipsis or isinstance(entry, (int, slice))):
            raise TensorIndexError(op=OP, expected="integers, slices, None and ... beside a Variable",
                                   got=type(entry).__name__, hint="Index in two steps")
        rest.append(entry)
        axis += rank - taken if entry is Ellipsis else not isinstance(entry, int)
    return tuple(rest), windows


def _window(entry: Any, axis: int) -> Window | None:
    if isinstance(entry, BoundVariable):
        return Window(axis, entry, None)
    if not isinstance(entry, slice) or not has_variables(entry):
        return None
    start, stop = entry.start, entry.stop
    static = isinstance(start, BoundVariable) and isinstance(stop, BoundVariable) and entry.step in (None, 1)
    if not static or start - start.offset != stop - stop.offset or stop.offset < start.offset:
        raise TensorIndexError(op=OP, expected="a slice of a fixed size from a Variable on, as x[v:v + 4]",
                               got=f"slice({start}, {stop}, {entry.step})",
                               hint="Shapes are static: take the longest and mask what is too much")
    return Window(axis, start, stop.offset - start.offset)


def positions(window: Window, dim: int, device: DeviceId) -> Node:
    """The positions that a variable selects along an axis; TensorIndexError if it may leave that."""
    low, high = window.start.range
    size = 1 if window.size is None else window.size
    if low < 0 or high + size > dim:
        raise TensorIndexError(op=OP, expected=f"a Variable that stays within an axis of size {dim}",
                               got=f"{window.start.variable.name}: positions {low} to {high + size - 1}",
                               hint="Give it a smaller range")
    start = build.const(window.start.read(), dtypes.int64, device)
    if window.size is None:
        return start
    return build.binary(ops.ADD, start, build.iota(size, dtypes.int64, device))

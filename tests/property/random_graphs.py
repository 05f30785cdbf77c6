"""Draws graphs for property tests: each value knows how large and how inexact it can be.

Leaves hold small integers, so that most floats are exact whatever the order of a sum; what is not exact
carries a bound of its error, and nothing that jumps (comparing, rounding, converting to integers) is applied
to it.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from pluggrad import dtypes, runtime
from pluggrad.device.registry import REGISTRY
from pluggrad.dtypes import DType
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node, Op
from pluggrad.target import DeviceId
from tests.graph_reference import rounded

DIMS = (0, 1, 1, 1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 23, 31, 32, 33, 47, 61, 64, 67, 70)
DTYPES = (dtypes.bool_, dtypes.uint8, dtypes.int8, dtypes.int16, dtypes.uint32, dtypes.int32, dtypes.int64,
          dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float32, dtypes.float32, dtypes.float64)
_MANTISSA = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
_ROOM = {"float16": 3e4, "bfloat16": 1e30, "float32": 1e30, "float64": 1e200}

_INT_BINARY = (ops.ADD, ops.SUB, ops.MUL, ops.IDIV, ops.MOD, ops.MAX, ops.MIN, ops.AND, ops.OR, ops.XOR,
               ops.SHL, ops.SHR)
_FLOAT_BINARY = (ops.ADD, ops.SUB, ops.MUL, ops.MAX, ops.MIN)
_BOOL_BINARY = (ops.ADD, ops.MUL, ops.AND, ops.OR, ops.XOR, ops.MAX, ops.MIN)
_COMPARE = (ops.LT, ops.LE, ops.EQ, ops.NE)
_ROUNDING = (ops.FLOOR, ops.CEIL, ops.TRUNC, ops.ROUND)
_SMOOTH = (ops.TANH, ops.SIN, ops.COS, ops.ERF)  # slopes of at most 1.2, values of at most 1


@dataclass(frozen=True)
class Value:
    """A graph value on every device. |value| <= top; a result may differ by `error` (0: exact)."""

    nodes: tuple[Node, ...]
    top: float
    error: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.nodes[0].shape

    @property
    def dtype(self) -> DType:
        return self.nodes[0].dtype


class Drawn:
    """A graph in the making, on several devices at once. `draw` asks hypothesis; `buffers` are the data of
    the BUFFER leaves on every device, `largest` the elements of a leaf; dtypes are those that all declare."""

    def __init__(self, draw: Callable, devices: Sequence[DeviceId], largest: int = 1 << 15) -> None:
        self.draw, self.devices, self.largest = draw, tuple(devices), largest
        self.values: list[Value] = []
        self.buffers: dict[Node, np.ndarray] = {}
        declared = [REGISTRY.target(device).capabilities.dtypes for device in devices]
        self.dtypes = [dtype for dtype in DTYPES if all(dtype.name in names for names in declared)]

    def pick(self, choices: Sequence) -> object:
        return self.draw(st.sampled_from(list(choices)))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def chance(self) -> bool:
        return self.draw(st.booleans())

    def each(self, function: Callable[..., Node], *sources: Value, top: float, error: float = 0.0) -> Value:
        """`function` of the sources on every device; it rounds where `top` is beyond exact integers."""
        made = tuple(function(*[s.nodes[i] for s in sources]) for i in range(len(self.devices)))
        dtype = made[0].dtype
        if not dtype.is_float:
            return Value(made, min(top, float(max(dtype.max, -int(dtype.min)))), 0.0)
        unit = 2.0 ** (1 - _MANTISSA[dtype.name])
        exact = error == 0.0 and top <= 2.0 ** _MANTISSA[dtype.name]
        return Value(made, top, 0.0 if exact else error + unit * top)

    def sound(self, value: Value) -> bool:
        """Whether a value can be used further: far from overflow, with an error that leaves something."""
        if not value.dtype.is_float:
            return True
        return value.top < _ROOM[value.dtype.name] and value.error <= 0.05 * max(value.top, 1.0)

    # ---- leaves --------------------------------------------------------------------------------------------
    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        rank = self.number(0, 4) if rank is None else rank
        dims = [self.pick(DIMS) for _ in range(rank)]
        while math.prod(dims) > self.largest:
            dims[dims.index(max(dims))] = self.pick((1, 2, 3))
        return tuple(dims)

    def leaf(self, shape: tuple[int, ...], dtype: DType, top: int = 4) -> Value:
        """Stored data: integers of at most `top`."""
        generator = np.random.default_rng(self.number(0, 1 << 16))
        low = 0 if dtype.kind in "ub" else -top
        data = generator.integers(low, 1 if dtype.kind == "b" else top, shape, endpoint=True)
        stored = data.astype(dtype.numpy)
        if dtype is dtypes.bfloat16:
            stored = (data.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        nodes = tuple(runtime.upload(stored, dtype, device) for device in self.devices)
        for node in nodes:
            self.buffers[node] = rounded(data.astype(np.float64 if dtype.is_float else dtype.numpy), dtype)
        return Value(nodes, float(top))

    def const(self, shape: tuple[int, ...], dtype: DType) -> Value:
        number = self.number(0, 1) if dtype.kind == "b" else self.number(0 if dtype.kind == "u" else -5, 5)
        value = float(number) if dtype.is_float else number
        nodes = tuple(build.const(value, dtype, device, shape) for device in self.devices)
        return Value(nodes, 5.0)

    def any(self, keep: Callable[[Value], bool] = lambda value: True) -> Value | None:
        found = [value for value in self.values if keep(value)]
        return self.pick(found) if found else None

    # ---- steps ---------------------------------------------------------------------------------------------
    def step(self) -> None:
        made = _STEPS[self.pick(range(len(_STEPS)))](self)
        if made is not None and math.prod(made.shape) <= 4 * self.largest and self.sound(made):
            self.values.append(made)

    def new_leaf(self) -> Value:
        return self.leaf(self.shape(), self.pick(self.dtypes))

    def iota(self) -> Value:
        n, dtype = self.pick(DIMS), self.pick((dtypes.int32, dtypes.int64, dtypes.uint8))
        nodes = tuple(build.iota(n, dtype, device) for device in self.devices)
        return Value(nodes, 70.0)

    def bits(self) -> Value:
        shape, key, counter = self.shape(self.number(0, 2)), self.number(0, 1 << 31), self.number(0, 9)
        nodes = []
        for device in self.devices:
            parts = [build.const(word, dtypes.uint32, device) for word in (key, key ^ 77, counter)]
            nodes.append(build.random_bits(shape, *parts))
        return Value(tuple(nodes), 2.0 ** 32)

    def unary(self) -> Value:
        x = self.any()
        if x.dtype.kind == "b":
            return self.each(lambda n: build.unary(ops.NOT, n), x, top=1)
        if not x.dtype.is_float:
            op = self.pick((ops.NEG, ops.ABS, ops.NOT))
            return self.each(lambda n: build.unary(op, n), x, top=math.inf)
        rounding = _ROUNDING if x.error == 0 else ()
        op = self.pick((ops.NEG, ops.ABS, *_SMOOTH, *rounding, ops.EXP, ops.SQRT, ops.RECIP, ops.LOG))
        return self.function(op, x)

    def function(self, op: Op, x: Value) -> Value:
        """A unary function of floats, on a range where it is tame."""
        unit = 8 * 2.0 ** (1 - _MANTISSA[x.dtype.name])
        if op in (ops.NEG, ops.ABS, *_ROUNDING):
            return self.each(lambda n: build.unary(op, n), x, top=x.top, error=x.error)
        if op in _SMOOTH:
            return self.each(lambda n: build.unary(op, n), x, top=1.0, error=1.2 * x.error + unit)
        one = [build.const(1.0, x.dtype, device) for device in self.devices]
        nodes = tuple(build.binary(ops.ADD, build.unary(ops.ABS, n), o) for n, o in zip(x.nodes, one))
        grown = Value(nodes, x.top + 1, x.error + unit * (x.top + 1))
        if op is ops.EXP:  # of -(|x| + 1)
            error = grown.error + unit
            return self.each(lambda n: build.unary(op, build.unary(ops.NEG, n)), grown, top=1.0, error=error)
        top = {ops.SQRT: math.sqrt(grown.top), ops.RECIP: 1.0, ops.LOG: math.log(grown.top)}[op]
        return self.each(lambda n: build.unary(op, n), grown, top=max(top, 1.0), error=grown.error + unit)

    def partner(self, x: Value) -> Value:
        """A value that broadcasts with x: one of equal shape, a constant, a smaller leaf, or x reduced."""
        same = [v for v in self.values if v.shape == x.shape]
        way = self.number(0, 3)
        if way == 0:
            return self.pick(same)
        if way == 1:
            return self.const(() if self.chance() else x.shape, x.dtype)
        shape = tuple(d if self.chance() else 1 for d in x.shape)[self.number(0, len(x.shape)):]
        if way == 2 or 0 in x.shape or not x.shape:
            return self.leaf(shape, self.pick((x.dtype, self.pick(self.dtypes))))
        return self.row_wise(x) or self.leaf(shape, x.dtype)

    def row_wise(self, x: Value) -> Value | None:
        """x reduced with its axes kept."""
        reduced = self.reduction(x)
        if reduced is None or not self.sound(reduced[0]):
            return None
        value, axes = reduced
        shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
        return self.each(lambda n: build.reshape(n, shape), value, top=value.top, error=value.error)

    def as_dtype(self, x: Value, dtype: DType) -> Value | None:
        """A cast that is alike on every device: no inexact one to integers, none beyond a float's range."""
        if x.dtype is dtype:
            return x
        if dtype.is_float:
            fits = x.top < _ROOM[dtype.name]
            return self.each(lambda n: build.cast(n, dtype), x, top=x.top, error=x.error) if fits else None
        return self.each(lambda n: build.cast(n, dtype), x, top=x.top) if x.error == 0 else None

    def cast(self) -> Value | None:
        return self.as_dtype(self.any(), self.pick(self.dtypes))

    def pair(self) -> tuple[Value, Value] | None:
        x = self.any()
        y = self.partner(x)
        dtype = dtypes.promote(x.dtype, y.dtype)
        x, y = self.as_dtype(x, dtype), self.as_dtype(y, dtype)
        return None if x is None or y is None else (x, y)

    def binary(self) -> Value | None:
        pair = self.pair()
        if pair is None:
            return None
        x, y = pair
        kinds = {"b": _BOOL_BINARY, "f": _FLOAT_BINARY}
        op = self.pick(kinds.get(x.dtype.kind, _INT_BINARY))
        if not x.dtype.is_float:
            return self.each(lambda a, b: build.binary(op, a, b), x, y, top=math.inf)
        if op is ops.MUL:
            top, error = x.top * y.top, x.error * y.top + y.error * x.top
        elif op in (ops.MAX, ops.MIN):
            top, error = max(x.top, y.top), max(x.error, y.error)
        else:
            top, error = x.top + y.top, x.error + y.error
        return self.each(lambda a, b: build.binary(op, a, b), x, y, top=top, error=error)

    def compare(self) -> Value | None:
        pair = self.pair()
        if pair is None or pair[0].error or pair[1].error:
            return None
        op = self.pick(_COMPARE)
        return self.each(lambda a, b: build.binary(op, a, b), *pair, top=1)

    def where(self) -> Value | None:
        condition, pair = self.any(lambda v: v.dtype is dtypes.bool_), self.pair()
        if pair is None:
            return None
        x, y = pair
        shape = np.broadcast_shapes(x.shape, y.shape)
        if condition is None or condition.shape != shape:
            condition = self.leaf(tuple(d if self.chance() else 1 for d in shape), dtypes.bool_)
        return self.each(build.where, condition, x, y, top=max(x.top, y.top), error=max(x.error, y.error))

    def reduction(self, x: Value) -> tuple[Value, tuple[int, ...]] | None:
        axes = tuple(i for i in range(len(x.shape)) if self.chance())
        op = self.pick((ops.SUM, ops.SUM, ops.RMAX, ops.RMIN, ops.PROD))
        count = math.prod(x.shape[i] for i in axes)
        if op in (ops.RMAX, ops.RMIN) and count == 0:
            return None
        top, error = x.top, x.error
        if op is ops.SUM:
            top, error = max(count, 1) * x.top, max(count, 1) * x.error
        elif op is ops.PROD and x.dtype.is_float:
            if x.error or count * math.log2(max(x.top, 2)) > _MANTISSA[x.dtype.name]:
                return None
            top = max(x.top, 2) ** count
        made = self.each(lambda n: build.reduce(op, n, axes), x, top=top, error=error)
        return (made if axes else x), axes

    def reduced(self) -> Value | None:
        made = self.reduction(self.any())
        return made and made[0]

    def softmax(self) -> Value | None:
        """exp(x - max) / sum: three passes over a row that depend on one another."""
        x = self.any(lambda v: v.dtype in (dtypes.float32, dtypes.float64) and 0 not in (v.shape or (0,))
                     and v.top < 60)
        if x is None:
            return None
        axis = self.number(0, len(x.shape) - 1)
        kept = tuple(1 if i == axis else d for i, d in enumerate(x.shape))

        def apply(n: Node) -> Node:
            shifted = build.binary(ops.SUB, n, build.reshape(build.reduce(ops.RMAX, n, axis), kept))
            powers = build.unary(ops.EXP, shifted)
            return build.binary(ops.DIV, powers, build.reshape(build.reduce(ops.SUM, powers, axis), kept))

        unit = 64 * 2.0 ** (1 - _MANTISSA[x.dtype.name])
        return self.each(apply, x, top=1.0, error=4 * x.error + unit)

    def matmul(self) -> Value:
        m, k, n = [self.pick(DIMS) for _ in range(3)]
        while m * k * n > 4 * self.largest:
            m, k = self.pick((1, 3, 8)), self.pick((2, 5, 33))
        dtype = self.pick((dtypes.float32, dtypes.float32, dtypes.float64, dtypes.int32, dtypes.float16))
        x = self.leaf((m, k), dtype)
        transposed = self.chance()
        y = self.leaf((n, k) if transposed else (k, n), dtype)

        def apply(a: Node, b: Node) -> Node:
            right = build.permute(b, (1, 0)) if transposed else b
            product = build.binary(ops.MUL, build.reshape(a, (m, k, 1)), build.reshape(right, (1, k, n)))
            return build.reduce(ops.SUM, product, 1)

        return self.each(apply, x, y, top=16.0 * max(k, 1))

    def moved(self) -> Value:
        x = self.any()
        name, arg = self.movement(x.shape)
        return self.each(lambda n: build.move(n, ((name, arg),)), x, top=x.top, error=x.error)

    def folded(self) -> Value | None:
        """Windows of a value, folded: each element as often as windows hold it."""
        x = self.any(lambda v: v.dtype.kind != "b" and 0 < len(v.shape) < 4 and 0 not in v.shape)
        if x is None:
            return None
        rows = [self.window_row(axis, dim) for axis, dim in enumerate(x.shape) if self.chance()]
        count = math.prod(size for _, size, _, _ in rows)
        return self.each(lambda n: build.fold(build.window(n, rows), rows, n.shape), x, top=count * x.top,
                         error=count * x.error)

    def movement(self, shape: tuple[int, ...], writable: bool = False) -> tuple[str, object]:
        """A movement step from `shape`; a writable one takes no element twice and adds none."""
        once = ("slice", "permute", "flip", "reshape")
        name = self.pick(once if writable else (*once, "expand", "pad", "window", "skew"))
        if name == "slice":
            return name, tuple(self.slice_of(d) for d in shape)
        if name == "permute":
            return name, tuple(self.draw(st.permutations(range(len(shape)))))
        if name == "flip":
            return name, tuple(i for i in range(len(shape)) if self.chance())
        if name == "reshape":
            return name, self.reshaped(shape)
        if name == "expand":
            return name, tuple(self.pick((1, 3, 7)) if d == 1 else d for d in shape)
        if name == "window":
            return name, tuple(self.window_row(axis, dim) for axis, dim in enumerate(shape)
                               if dim and len(shape) < 4 and self.chance())
        if name == "skew":
            rows = [(axis, axis + 1, self.number(-2, 2), self.number(-3, 3), self.number(1, 9))
                    for axis in range(0, len(shape) - 1, 2)]
            return name, tuple(rows)
        return name, tuple((self.number(0, 3), self.number(0, 3)) if self.chance() else (0, 0) for _ in shape)

    def window_row(self, axis: int, dim: int) -> tuple[int, int, int, int]:
        size = self.number(1, min(dim, 5))
        dilation = self.number(1, max((dim - 1) // max(size - 1, 1), 1)) if size > 1 else 1
        return axis, size, self.number(1, 3), min(dilation, 3)

    def slice_of(self, dim: int) -> tuple[int, int, int]:
        if dim == 0 or self.chance():
            return 0, dim, 1
        start, step = self.number(0, dim - 1), self.number(1, 3)
        return start, self.number(0, -(-(dim - start) // step)), step

    def reshaped(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The same elements: neighboring dims merged, dims split at a divisor, ones put in."""
        dims = list(shape)
        for _ in range(self.number(1, 3)):
            place = self.number(0, len(dims))
            way = self.number(0, 2)
            if way == 0:
                dims.insert(place, 1)
            elif way == 1 and place + 1 < len(dims):
                dims[place:place + 2] = [dims[place] * dims[place + 1]]
            elif way == 2 and place < len(dims) and dims[place] > 1:
                divisor = self.pick([d for d in range(1, dims[place] + 1) if dims[place] % d == 0])
                dims[place:place + 1] = [divisor, dims[place] // divisor]
        return tuple(dims[:6]) if len(dims) <= 6 else shape

    def update(self) -> Value | None:
        base = self.any()
        steps, shape = [], base.nodes[0]
        for _ in range(self.number(0, 2)):
            steps.append(self.movement(shape.shape, writable=True))
            shape = build.move(shape, steps[-1:])
        same = [v for v in self.values if v.shape == shape.shape]
        value = self.pick(same) if same and self.chance() else self.leaf(
            tuple(d if self.chance() else 1 for d in shape.shape), base.dtype)
        if self.chance() and base.shape == shape.shape:
            value = base  # a write that reads what it overwrites
        value = self.as_dtype(value, base.dtype)
        if value is None:
            return None
        return self.each(lambda b, v: build.update(b, v, tuple(steps)), base, value,
                         top=max(base.top, value.top), error=max(base.error, value.error))

    def index(self, shape: tuple[int, ...], axis: int) -> Value:
        """Numbers that are in range along an axis, from the end or the start, of `shape` or broadcast."""
        dims = [d if i == axis or self.chance() else 1 for i, d in enumerate(shape)]
        dims[axis] = self.pick((1, 2, 5, shape[axis]))
        data = self.leaf(tuple(dims), self.pick((dtypes.int32, dtypes.int64, dtypes.int8)), top=1 << 6)
        full = tuple(dims[axis] if i == axis else d for i, d in enumerate(shape))
        size = [build.const(shape[axis], data.dtype, device) for device in self.devices]
        signed = [build.binary(ops.MOD, n, s) for n, s in zip(data.nodes, size)]
        if self.chance():
            signed = [build.binary(ops.SUB, n, s) for n, s in zip(signed, size)]
        return Value(tuple(build.broadcast_to(n, full) for n in signed), 128.0)

    def gather(self) -> Value | None:
        x = self.any(lambda v: v.shape and math.prod(v.shape) > 0 and max(v.shape) < 100)
        if x is None:
            return None
        axis = self.number(0, len(x.shape) - 1)
        return self.each(lambda n, i: build.gather(n, i, axis), x, self.index(x.shape, axis), top=x.top,
                         error=x.error)

    def scatter(self) -> Value | None:
        base = self.any(lambda v: v.shape and math.prod(v.shape) > 0 and max(v.shape) < 100)
        if base is None:
            return None
        steps = [self.movement(base.shape, writable=True)] if self.chance() else []
        view = build.move(base.nodes[0], steps).shape
        if not view or 0 in view or max(view) >= 100:
            return None
        axis = self.number(0, len(view) - 1)
        index = self.index(view, axis)
        mode = self.pick(("SET", "ADD", "MAX", "MIN"))
        value = self.leaf(index.shape, base.dtype)
        count = index.shape[axis] if mode == "ADD" else 0
        top = max(base.top, value.top) + count * value.top
        return self.each(lambda b, i, v: build.scatter(b, i, v, axis, mode, tuple(steps)), base, index, value,
                         top=top, error=base.error)

    def hop(self) -> Value:
        """A value that each device takes from the next one."""
        x, count = self.any(), len(self.devices)
        nodes = [build.copy(x.nodes[(i + 1) % count], device) for i, device in enumerate(self.devices)]
        return Value(tuple(nodes), x.top, x.error)

    def identity(self) -> Value:
        x = self.any()
        make = self.pick((build.contiguous, build.detach))
        return self.each(make, x, top=x.top, error=x.error)


_STEPS = (Drawn.new_leaf, Drawn.iota, Drawn.bits, Drawn.unary, Drawn.unary, Drawn.binary, Drawn.binary,
          Drawn.binary, Drawn.compare, Drawn.where, Drawn.cast, Drawn.reduced, Drawn.reduced, Drawn.softmax,
          Drawn.matmul, Drawn.moved, Drawn.moved, Drawn.moved, Drawn.update, Drawn.update, Drawn.identity,
          Drawn.gather, Drawn.gather, Drawn.scatter, Drawn.folded, Drawn.hop)

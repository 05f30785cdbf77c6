"""Tensors from nothing. Each float one is a leaf with an identity of its own."""
from __future__ import annotations

import math
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.shape.broadcast import check_shape
from pluggrad.tensor.base import place
from pluggrad.tensor.convert import flatten_shape
from pluggrad.tensor.linalg import LinearAlgebra


class Creation(LinearAlgebra):
    """Constants and sequences. `device` None: the default one. `requires_grad=True` marks a parameter."""

    __slots__ = ()

    @classmethod
    def full(cls, shape: Any, fill_value: Any, dtype: Any = None, device: Any = None, buffer: bool = True,
             requires_grad: bool | None = None) -> Self:
        """`fill_value` everywhere; its own kind decides the dtype unless `dtype` does.

        buffer: no difference here, as a constant gets memory once it is written to or realized.
        """
        sizes = check_shape("full", shape if isinstance(shape, (tuple, list)) else (shape,))
        found = dtypes.of_scalar(fill_value) if dtype is None else dtypes.to_dtype(dtype)
        dtypes.weak_result(found, fill_value, "full")  # an integer has to fit
        return cls._made(build.const(fill_value, found, place(device), sizes), requires_grad)

    @classmethod
    def zeros(
        cls, *shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool | None = None
    ) -> Self:
        """Zeros, of the default float unless `dtype` says otherwise: `zeros(2, 3)` or `zeros((2, 3))`."""
        found = dtypes.default_float if dtype is None else dtype
        sizes = check_shape("zeros", flatten_shape(shape))
        return cls.full(sizes, 0, found, device, requires_grad=requires_grad)

    @classmethod
    def ones(
        cls, *shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool | None = None
    ) -> Self:
        """Ones, of the default float unless `dtype` says otherwise."""
        found = dtypes.default_float if dtype is None else dtype
        sizes = check_shape("ones", flatten_shape(shape))
        return cls.full(sizes, 1, found, device, requires_grad=requires_grad)

    @classmethod
    def empty(
        cls, *shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool | None = None
    ) -> Self:
        """A tensor to be written later; it reads as zeros until then."""
        return cls.zeros(*shape, dtype=dtype, device=device, requires_grad=requires_grad)

    def _like(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        x = self.node
        return {"dtype": x.dtype, "device": x.device, **{k: v for k, v in kwargs.items() if v is not None}}

    def full_like(self, fill_value: Any, dtype: Any = None, device: Any = None, buffer: bool = True,
                  requires_grad: bool | None = None) -> Self:
        """`fill_value` in this tensor's shape, and its dtype and device unless given; `buffer` as in `full`.
        """
        kwargs = self._like({"dtype": dtype, "device": device})
        return self.full(self.shape, fill_value, buffer=buffer, requires_grad=requires_grad, **kwargs)

    def zeros_like(self, **kwargs: Any) -> Self:
        """Zeros in this tensor's shape, and its dtype and device unless given."""
        return self.full_like(0, **kwargs)

    def ones_like(self, **kwargs: Any) -> Self:
        """Ones in this tensor's shape, and its dtype and device unless given."""
        return self.full_like(1, **kwargs)

    def empty_like(self, dtype: Any = None, device: Any = None) -> Self:
        """`empty` in this tensor's shape, and its dtype and device unless given."""
        return self.full_like(0, dtype, device)

    @classmethod
    def arange(
        cls,
        start: float,
        stop: float | None = None,
        step: float = 1,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool | None = None,
    ) -> Self:
        """start, start + step, ... before `stop`; of one argument: from 0.

        Integers give the default int, or int64 where they need it; floats the default float.
        """
        if stop is None:
            start, stop = 0, start
        if step == 0:
            raise ValueRangeError(op="arange", expected="a step other than 0", got="0")
        if dtype is not None:
            found = dtypes.to_dtype(dtype)
        elif all(isinstance(number, int) for number in (start, stop, step)):
            default = dtypes.default_int
            fits = default.min <= min(start, stop) and max(start, stop) - 1 <= default.max
            found = default if fits else dtypes.int64
        else:
            found = dtypes.default_float
        count = max(math.ceil((stop - start) / step), 0)
        return cls._sequence(count, start, step, found, device, requires_grad)

    @classmethod
    def linspace(cls, start: float, stop: float, steps: int, dtype: Any = None, device: Any = None,
                 requires_grad: bool | None = None) -> Self:
        """`steps` evenly spaced numbers from `start` to `stop`, both included."""
        if steps < 0:
            raise ShapeError(op="linspace", expected="at least 0 steps", got=str(steps))
        found = dtypes.default_float if dtype is None else dtypes.to_dtype(dtype)
        return cls._sequence(steps, start, (stop - start) / max(steps - 1, 1), found, device, requires_grad)

    @classmethod
    def logspace(
        cls,
        start: float,
        stop: float,
        steps: int,
        base: float = 10.0,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool | None = None,
    ) -> Self:
        """`base` to the powers of `linspace(start, stop, steps)`."""
        exponents = cls.linspace(start, stop, steps, dtype, device).node
        found = build.const(base, exponents.dtype, exponents.device, exponents.shape)
        return cls._made(build.binary(ops.POW, found, build.detach(exponents)), requires_grad)

    @classmethod
    def _sequence(cls, count: int, start: float, step: float, dtype: dtypes.DType, device: Any,
                  requires_grad: bool | None) -> Self:
        where = place(device)
        fractional = not (isinstance(start, int) and isinstance(step, int))
        working = (
            dtypes.float64 if dtype is dtypes.float64 else dtypes.float32 if fractional else dtypes.int64
        )
        if not fractional and dtype.is_int and dtype.itemsize >= 4:
            working = dtype
        node = build.cast(
            build.iota(count, dtypes.int64 if working is dtypes.int64 else dtypes.int32, where), working
        )
        if step != 1:
            node = build.binary(ops.MUL, node, build.const(step, working, where, (count,)))
        if start != 0:
            node = build.binary(ops.ADD, node, build.const(start, working, where, (count,)))
        return cls._made(build.cast(node, dtype), requires_grad)

    @classmethod
    def eye(cls, n: int, m: int | None = None, dtype: Any = None, device: Any = None,
            requires_grad: bool | None = None) -> Self:
        """A matrix (n, m), square without `m`, with ones on its diagonal."""
        rows, columns = check_shape("eye", (n, n if m is None else m))
        where = place(device)
        down = build.reshape(build.iota(rows, dtypes.int32, where), (rows, 1))
        equal = build.binary(ops.EQ, down, build.iota(columns, dtypes.int32, where))
        found = dtypes.default_float if dtype is None else dtypes.to_dtype(dtype)
        return cls._made(build.cast(equal, found), requires_grad)

    def one_hot(self, num_classes: int) -> Self:
        """int32: a new last axis with 1 at the place each integer names; zeros for one out of range."""
        check_shape("one_hot", (num_classes,))
        labels = self.unsqueeze(-1).node
        places = build.iota(num_classes, dtypes.int32, labels.device)
        if labels.dtype.is_float:
            labels = build.cast(labels, dtypes.int32)
        return self._new(build.cast(build.binary(ops.EQ, labels, places), dtypes.int32))

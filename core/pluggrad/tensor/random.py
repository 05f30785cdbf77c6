"""Random tensors: threefry in the order of the calls, the same bits and uniforms on every device."""
from __future__ import annotations

import math
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.shape.broadcast import check_shape
from pluggrad.shape.dims import Shape
from pluggrad.target import DeviceId
from pluggrad.tensor.base import place
from pluggrad.tensor.convert import flatten_shape
from pluggrad.tensor.creation import Creation
from pluggrad.tensor.random_state import manual_seed, random_bits

# random bits per uniform: as many as the dtype's fraction holds
_FRACTION_BITS = {dtypes.float16: 11, dtypes.bfloat16: 8, dtypes.float32: 24}


def uniform_node(shape: Shape, dtype: DType, device: DeviceId) -> Node:
    """Uniform in [0, 1): multiples of 2**-bits, all equally likely."""
    if dtype is dtypes.float64:
        return _uniform_double(shape, device)
    count = _FRACTION_BITS[dtype]
    bits = random_bits(shape, device)
    top = build.binary(ops.SHR, bits, build.const(32 - count, dtypes.uint32, device, shape, fixed=True))
    scale = build.const(2.0**-count, dtypes.float32, device, shape)
    return build.cast(build.binary(ops.MUL, build.cast(top, dtypes.float32), scale), dtype)


def _uniform_double(shape: Shape, device: DeviceId) -> Node:
    bits = random_bits((2, *shape), device)
    halves = []
    for row, dropped in ((0, 5), (1, 6)):
        part = build.slice(bits, ((row, 1, 1), *[(0, dim, 1) for dim in shape]))
        part = build.reshape(part, shape)
        part = build.binary(ops.SHR, part, build.const(dropped, dtypes.uint32, device, shape, fixed=True))
        halves.append(build.cast(part, dtypes.float64))
    high = build.binary(ops.MUL, halves[0], build.const(2.0**26, dtypes.float64, device, shape))
    whole = build.binary(ops.ADD, high, halves[1])
    return build.binary(ops.MUL, whole, build.const(2.0**-53, dtypes.float64, device, shape))


def normal_node(shape: Shape, dtype: DType, device: DeviceId) -> Node:
    """Standard normal, by Box and Muller's transform of two uniforms."""
    working = dtypes.accumulator_dtype(dtype)
    both = uniform_node((2, *shape), working, device)
    u, v = (
        build.reshape(build.slice(both, ((row, 1, 1), *[(0, dim, 1) for dim in shape])), shape)
        for row in (0, 1)
    )

    def constant(value: float) -> Node:
        return build.const(value, working, device, shape)

    # 1 - u lies in (0, 1], whose logarithm is finite
    log = build.unary(ops.LOG, build.binary(ops.SUB, constant(1.0), u))
    radius = build.unary(ops.SQRT, build.binary(ops.MUL, log, constant(-2.0)))
    angle = build.unary(ops.COS, build.binary(ops.MUL, v, constant(2 * math.pi)))
    return build.cast(build.binary(ops.MUL, radius, angle), dtype)


def _float_dtype(op: str, dtype: Any) -> DType:
    found = dtypes.default_float if dtype is None else dtypes.to_dtype(dtype)
    if not found.is_float:
        raise DTypeError(op=op, expected="a float dtype", got=found.name)
    return found


class Random(Creation):
    """Random tensors. Each call takes the next draw of one stream; `manual_seed` starts it anew."""

    __slots__ = ()

    @staticmethod
    def manual_seed(seed: int = 0) -> None:
        """Start the random stream anew from `seed`."""
        manual_seed(seed)

    @classmethod
    def rand(cls, *shape: Any, device: Any = None, dtype: Any = None, contiguous: bool = True,
             requires_grad: bool | None = None) -> Self:
        """Uniform in [0, 1), of a float dtype.

        contiguous: no difference here, as values are drawn by position wherever they are computed.
        """
        return cls.uniform(*shape, device=device, dtype=dtype, requires_grad=requires_grad)

    @classmethod
    def uniform(cls, *shape: Any, low: float = 0.0, high: float = 1.0, dtype: Any = None, device: Any = None,
                requires_grad: bool | None = None) -> Self:
        """Uniform in [low, high), of a float dtype."""
        sizes, where = check_shape("uniform", flatten_shape("uniform", shape)), place(device)
        node = uniform_node(sizes, _float_dtype("uniform", dtype), where)
        if high - low != 1.0:
            node = build.binary(ops.MUL, node, build.const(high - low, node.dtype, where, sizes))
        if low != 0.0:
            node = build.binary(ops.ADD, node, build.const(low, node.dtype, where, sizes))
        return cls._made(node, requires_grad)

    @classmethod
    def randn(
        cls, *shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool | None = None
    ) -> Self:
        """Normal with mean 0 and standard deviation 1, of a float dtype."""
        return cls.normal(*shape, dtype=dtype, device=device, requires_grad=requires_grad)

    @classmethod
    def normal(cls, *shape: Any, mean: float = 0.0, std: float = 1.0, dtype: Any = None, device: Any = None,
               requires_grad: bool | None = None) -> Self:
        """Normal with the given mean and standard deviation, of a float dtype."""
        sizes, where = check_shape("normal", flatten_shape("normal", shape)), place(device)
        node = normal_node(sizes, _float_dtype("normal", dtype), where)
        if std != 1.0:
            node = build.binary(ops.MUL, node, build.const(std, node.dtype, where, sizes))
        if mean != 0.0:
            node = build.binary(ops.ADD, node, build.const(mean, node.dtype, where, sizes))
        return cls._made(node, requires_grad)

    @classmethod
    def randint(
        cls, *shape: Any, low: int = 0, high: int = 10, dtype: Any = None, device: Any = None
    ) -> Self:
        """Integers in [low, high), int32 unless `dtype` says otherwise; at most 2**32 different ones."""
        found = dtypes.int32 if dtype is None else dtypes.to_dtype(dtype)
        if not found.is_int:
            raise DTypeError(op="randint", expected="an integer dtype", got=found.name)
        if not 0 < high - low <= 1 << 32 or low < found.min or high - 1 > found.max:
            raise ValueRangeError(
                op="randint",
                expected=f"low < high within {found.name}, at most 2**32 apart",
                got=f"{low} and {high}",
            )
        sizes, where = check_shape("randint", flatten_shape("randint", shape)), place(device)
        # the high word of bits * count: no division, a bias of at most count / 2**32
        bits = build.cast(random_bits(sizes, where), dtypes.uint64)
        scaled = build.binary(ops.MUL, bits, build.const(high - low, dtypes.uint64, where, sizes))
        scaled = build.binary(ops.SHR, scaled, build.const(32, dtypes.uint64, where, sizes))
        node = build.binary(
            ops.ADD, build.cast(scaled, dtypes.int64), build.const(low, dtypes.int64, where, sizes)
        )
        return cls._made(build.cast(node, found))

    @classmethod
    def bernoulli(cls, *shape: Any, p: float = 0.5, dtype: Any = None, device: Any = None) -> Self:
        """1 with probability `p`, else 0."""
        if not 0 <= p <= 1:
            raise ValueRangeError(op="bernoulli", expected="a probability in [0, 1]", got=str(p))
        sizes, where = check_shape("bernoulli", flatten_shape("bernoulli", shape)), place(device)
        uniform = uniform_node(sizes, dtypes.float32, where)
        hit = build.binary(ops.LT, uniform, build.const(p, dtypes.float32, where, sizes))
        return cls._made(build.cast(hit, dtypes.default_float if dtype is None else dtypes.to_dtype(dtype)))

    @classmethod
    def scaled_uniform(cls, *shape: Any, **kwargs: Any) -> Self:
        """Uniform in [-1, 1) divided by the square root of the number of elements."""
        count = math.prod(check_shape("scaled_uniform", flatten_shape("scaled_uniform", shape)))
        bound = max(count, 1) ** -0.5
        return cls.uniform(*shape, low=-bound, high=bound, **kwargs)

    @classmethod
    def glorot_uniform(cls, *shape: Any, **kwargs: Any) -> Self:
        """Glorot and Bengio's uniform start: bound sqrt(6 / (fan in + fan out)); axis 0 is the outputs."""
        sizes = check_shape("glorot_uniform", flatten_shape("glorot_uniform", shape))
        fans = (sizes[0] if sizes else 1) + math.prod(sizes[1:])
        bound = math.sqrt(6 / max(fans, 1))
        return cls.uniform(*shape, low=-bound, high=bound, **kwargs)

    @classmethod
    def kaiming_uniform(cls, *shape: Any, a: float = 0.01, **kwargs: Any) -> Self:
        """He's uniform start for a leaky relu of slope `a`: bound sqrt(6 / ((1 + a*a) fan in))."""
        bound = math.sqrt(3.0) * _kaiming("kaiming_uniform", shape, a)
        return cls.uniform(*shape, low=-bound, high=bound, **kwargs)

    @classmethod
    def kaiming_normal(cls, *shape: Any, a: float = 0.01, **kwargs: Any) -> Self:
        """He's normal start for a leaky relu of slope `a`: deviation sqrt(2 / ((1 + a*a) fan in))."""
        return cls.normal(*shape, mean=0.0, std=_kaiming("kaiming_normal", shape, a), **kwargs)

    def rand_like(self, **kwargs: Any) -> Self:
        """`rand` of this tensor's shape, and its dtype and device unless given."""
        return self.rand(*self.shape, **self._like(kwargs))

    def randn_like(self, dtype: Any = None, **kwargs: Any) -> Self:
        """`randn` of this tensor's shape, and its dtype and device unless given."""
        return self.randn(
            *self.shape, **self._like({**kwargs, **({} if dtype is None else {"dtype": dtype})})
        )


def _kaiming(op: str, shape: tuple[Any, ...], slope: float) -> float:
    sizes = check_shape(op, flatten_shape(op, shape))
    return math.sqrt(2 / ((1 + slope * slope) * max(math.prod(sizes[1:]), 1)))

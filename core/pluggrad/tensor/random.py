"""Random tensors: threefry in the order of the calls, the same bits and uniforms on every device."""
from __future__ import annotations

import math
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.shape.broadcast import check_shape
from pluggrad.tensor.base import place
from pluggrad.tensor.convert import flatten_shape
from pluggrad.tensor.creation import Creation
from pluggrad.tensor.distributions import exponential_node, integers_node, normal_node, uniform_node
from pluggrad.tensor.random_state import manual_seed


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
        """Uniform in [low, high), of a float dtype; `high` itself never comes.

        ValueRangeError if `low` is above `high` or one is infinite.
        """
        if not (low <= high and math.isfinite(high - low)):
            raise ValueRangeError(op="uniform", expected="finite low <= high", got=f"{low} and {high}")
        sizes, where = check_shape("uniform", flatten_shape(shape)), place(device)
        node = uniform_node(sizes, _float_dtype("uniform", dtype), where, low, high)
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
        """Normal with the given mean and standard deviation, of a float dtype; finite.

        ValueRangeError for a negative `std`.
        """
        if not std >= 0:
            raise ValueRangeError(op="normal", expected="a standard deviation of at least 0", got=str(std))
        sizes, where = check_shape("normal", flatten_shape(shape)), place(device)
        node = normal_node(sizes, _float_dtype("normal", dtype), where, mean, std)
        return cls._made(node, requires_grad)

    @classmethod
    def exponential(cls, *shape: Any, rate: float = 1.0, dtype: Any = None, device: Any = None,
                    requires_grad: bool | None = None) -> Self:
        """Exponential with mean 1 / rate, of a float dtype. ValueRangeError unless `rate` is above 0."""
        if not rate > 0:
            raise ValueRangeError(op="exponential", expected="a rate above 0", got=str(rate))
        sizes, where = check_shape("exponential", flatten_shape(shape)), place(device)
        node = exponential_node(sizes, _float_dtype("exponential", dtype), where, rate)
        return cls._made(node, requires_grad)

    @classmethod
    def randint(
        cls, *shape: Any, low: int = 0, high: int = 10, dtype: Any = None, device: Any = None
    ) -> Self:
        """Integers in [low, high), int32 unless `dtype` says otherwise, all equally likely.

        DTypeError for a float dtype, ValueRangeError for a range that is empty or not within the dtype.
        """
        found = dtypes.int32 if dtype is None else dtypes.to_dtype(dtype)
        if not found.is_int:
            raise DTypeError(op="randint", expected="an integer dtype", got=found.name)
        if not low < high or low < found.min or high - 1 > found.max:
            expected = f"low < high within {found.name} ({found.min} to {found.max})"
            raise ValueRangeError(op="randint", expected=expected, got=f"{low} and {high}")
        sizes, where = check_shape("randint", flatten_shape(shape)), place(device)
        node = integers_node(sizes, high - low, where)
        if low != 0:  # a negative one wraps, and back as the result is cast
            offset = build.const(low % (1 << 64), dtypes.uint64, where, sizes)
            node = build.binary(ops.ADD, node, offset)
        return cls._made(build.cast(node, found))

    @classmethod
    def bernoulli(cls, *shape: Any, p: float = 0.5, dtype: Any = None, device: Any = None) -> Self:
        """1 with probability `p`, else 0."""
        if not 0 <= p <= 1:
            raise ValueRangeError(op="bernoulli", expected="a probability in [0, 1]", got=str(p))
        sizes, where = check_shape("bernoulli", flatten_shape(shape)), place(device)
        uniform = uniform_node(sizes, dtypes.float32, where)
        hit = build.binary(ops.LT, uniform, build.const(p, dtypes.float32, where, sizes))
        return cls._made(build.cast(hit, dtypes.default_float if dtype is None else dtypes.to_dtype(dtype)))

    @classmethod
    def scaled_uniform(cls, *shape: Any, **kwargs: Any) -> Self:
        """Uniform in [-1, 1) divided by the square root of the number of elements."""
        count = math.prod(check_shape("scaled_uniform", flatten_shape(shape)))
        bound = max(count, 1) ** -0.5
        return cls.uniform(*shape, low=-bound, high=bound, **kwargs)

    @classmethod
    def glorot_uniform(cls, *shape: Any, **kwargs: Any) -> Self:
        """Glorot and Bengio's uniform start: bound sqrt(6 / (fan in + fan out)); axis 0 is the outputs."""
        sizes = check_shape("glorot_uniform", flatten_shape(shape))
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

    def randint_like(self, low: int = 0, high: int = 10, dtype: Any = None, **kwargs: Any) -> Self:
        """`randint` of this tensor's shape, and its dtype and device unless given."""
        return self.randint(*self.shape, low=low, high=high, **self._like({**kwargs, "dtype": dtype}))

    def randn_like(self, dtype: Any = None, **kwargs: Any) -> Self:
        """`randn` of this tensor's shape, and its dtype and device unless given."""
        return self.randn(
            *self.shape, **self._like({**kwargs, **({} if dtype is None else {"dtype": dtype})})
        )


def _kaiming(op: str, shape: tuple[Any, ...], slope: float) -> float:
    sizes = check_shape(op, flatten_shape(shape))
    return math.sqrt(2 / ((1 + slope * slope) * max(math.prod(sizes[1:]), 1)))

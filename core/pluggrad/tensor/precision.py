"""Mixed precision: products in a half, and what adds up or magnifies in float32, by two tables of methods."""
from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, Final, NamedTuple, ParamSpec, Self, TypeVar

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError
from pluggrad.graph import build
from pluggrad.tensor.base import TensorBase, place

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=type[TensorBase])

# a product rounds each result once, as its sum is kept in float32: a half is enough, and half the memory
IN_HALF: Final = frozenset({
    "dot", "matmul", "mm", "bmm", "mv", "addmm", "baddbmm", "inner", "vecdot", "outer", "tensordot", "einsum",
    "linear",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "scaled_dot_product_attention",
})
# what adds up many numbers, or whose results lie far from its arguments, would lose too much in a half;
# losses are of float32 in any case
IN_FLOAT32: Final = frozenset({
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "pow", "reciprocal", "rsqrt",
    "square", "sinh", "cosh", "tan", "asin", "acos", "softplus", "hypot",
    "sum", "prod", "mean", "var", "std", "var_mean", "std_mean", "norm", "vector_norm", "matrix_norm",
    "logsumexp", "cumsum", "cumprod", "logcumsumexp",
    "softmax", "softmin", "log_softmax",
    "normalize", "batchnorm", "layernorm", "layer_norm", "rms_norm", "group_norm", "instance_norm",
    "inv", "pinv", "solve", "solve_triangular", "lstsq", "det", "slogdet", "logdet", "cond", "cholesky", "qr",
    "svd", "svdvals", "eigh", "eigvalsh", "matrix_exp", "newton_schulz",
})


class Casting(NamedTuple):
    """What an `autocast` block asks for: the half, and the type of the devices concerned (None: all)."""

    dtype: DType
    device_type: str | None


class _Mode(threading.local):
    casting: Casting | None = None


mode: Final = _Mode()


class autocast:
    """Mixed precision: `with autocast():` or `@autocast()`, for the forward pass and the loss.

    In the block, products (`matmul`, `linear`, convolutions, attention) cast their float operands to `dtype`
    and return it, adding up in float32; sums, exponentials, softmax, normalization and losses cast halves to
    float32 and return that; everything else takes what it is given. float64 is left alone. Weights stay as
    they are, in float32, and so do their gradients. `backward` belongs behind the block.

    dtype: bfloat16, or float16, whose gradients need a `nn.optim.GradScaler`. device: only tensors on devices
    of the type of this one. enabled: False turns an outer block off. Blocks nest; each thread has its own;
    a captured function is captured anew for each. DTypeError for another dtype.
    """

    __slots__ = ("_casting", "_before")

    def __init__(self, dtype: Any = dtypes.bfloat16, device: Any = None, enabled: bool = True) -> None:
        half = dtypes.to_dtype(dtype)
        if half not in (dtypes.float16, dtypes.bfloat16):
            raise DTypeError(op="autocast", expected="float16 or bfloat16", got=half.name)
        self._casting = Casting(half, None if device is None else place(device).type) if enabled else None
        self._before: list[Casting | None] = []

    def __enter__(self) -> Self:
        self._before.append(mode.casting)
        mode.casting = self._casting
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        mode.casting = self._before.pop()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function` with its calls in such a block."""

        @wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            before, mode.casting = mode.casting, self._casting
            try:
                return function(*args, **kwargs)
            finally:
                mode.casting = before

        return wrapped


def casts_operands(cls: T) -> T:
    """The class with its methods of both tables looking at the mode first."""
    for names, cast in ((IN_HALF, _to_half), (IN_FLOAT32, _to_float32)):
        for name in names:
            method = inspect.getattr_static(cls, name)
            if isinstance(method, staticmethod | classmethod):
                setattr(cls, name, type(method)(_casting(method.__func__, cast)))
            else:
                setattr(cls, name, _casting(method, cast))
    return cls


def _casting(function: Callable[P, R], cast: Callable[[Any, Casting], Any]) -> Callable[P, R]:
    @wraps(function)
    def _method(*args: P.args, **kwargs: P.kwargs) -> R:
        casting = mode.casting
        if casting is None:
            return function(*args, **kwargs)
        operands = [cast(arg, casting) for arg in args]
        named = {name: cast(arg, casting) for name, arg in kwargs.items()}
        mode.casting = None  # what it is made of takes the operands as they are now
        try:
            return function(*operands, **named)
        finally:
            mode.casting = casting

    return _method


def _to_half(operand: Any, casting: Casting) -> Any:
    return _cast(operand, casting, casting.dtype)


def _to_float32(operand: Any, casting: Casting) -> Any:
    return _cast(operand, casting, dtypes.float32)


def _cast(operand: Any, casting: Casting, dtype: DType) -> Any:
    """A float tensor of at most 4 bytes, or each of a list of them, in `dtype`; anything else as it is."""
    if isinstance(operand, list | tuple):
        return type(operand)([_cast(part, casting, dtype) for part in operand])
    if not isinstance(operand, TensorBase):
        return operand
    kind = operand.node.type
    if not kind.dtype.is_float or kind.dtype.itemsize > 4 or kind.dtype is dtype:
        return operand
    if casting.device_type not in (None, kind.device.type):
        return operand
    return operand._new(build.cast(operand.node, dtype))

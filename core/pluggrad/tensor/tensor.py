"""The public Tensor: all method families, and the constructor."""
from __future__ import annotations

from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

from pluggrad import dtypes
from pluggrad.graph import build
from pluggrad.tensor.base import TensorBase, moved, place
from pluggrad.tensor.casts import Casts
from pluggrad.tensor.gradient import Differentiable
from pluggrad.tensor.interchange import Interchange
from pluggrad.tensor.precision import casts_operands


@casts_operands
class Tensor(Differentiable, Interchange, Casts):
    """An n-dimensional array of one dtype on one device, computed when its value is asked for.

    data: a number, bytes (as uint8), an array of NumPy or of another library (by DLPack, `__array__` or the
    buffer protocol), a tensor, or nested lists of these; values are copied. Python floats take the default
    float, integers the default int, NumPy data keep their dtype.
    device: where it lives, default `Device.DEFAULT`. dtype: cast to it. requires_grad: True marks a
    parameter, None makes a float tensor a leaf that gets a gradient while nothing is marked, False makes it
    no leaf, which optimizers leave alone. ShapeError for ragged lists, DTypeError for what holds no numbers,
    UnknownDevice or DeviceUnavailable for the device.
    """

    __slots__ = ()

    def __init__(
        self, data: Any, device: Any = None, dtype: Any = None, requires_grad: bool | None = None
    ) -> None:
        target = None if dtype is None else dtypes.to_dtype(dtype)
        if not isinstance(data, TensorBase):
            self._load(data, target, place(device), requires_grad)
            return
        self._base = self._identity = self._grad = None
        self._frozen = requires_grad is False
        node = build.detach(data.node)
        if device is not None:
            node = moved(node, device)
        self._become_leaf(node if target is None else build.cast(node, target), requires_grad)

    class train(ContextDecorator):
        """`Tensor.training` set to `mode`: `with Tensor.train():` or, for a function, `@Tensor.train()`."""

        def __init__(self, mode: bool = True) -> None:
            self._mode = mode
            self._before: list[bool] = []  # one for each entry, as a function that calls itself makes several

        def __enter__(self) -> None:
            self._before.append(Tensor.training)
            Tensor.training = self._mode

        def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                     trace: TracebackType | None) -> None:
            Tensor.training = self._before.pop()

    @staticmethod
    def test(mode: bool = True) -> Tensor.train:
        """The opposite of `train`: `with Tensor.test():` or `@Tensor.test()` for evaluation."""
        return Tensor.train(not mode)

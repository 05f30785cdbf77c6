"""Values in and out: NumPy, Python, text, copies, and where and when a value is stored."""
from __future__ import annotations

from typing import Any, Self

import numpy.typing as npt

from pluggrad import dtypes, runtime
from pluggrad.errors import DTypeError, PluggradError, ShapeError
from pluggrad.graph import build
from pluggrad.graph.custom import custom_vjp
from pluggrad.ir.node import Node
from pluggrad.target import DeviceId
from pluggrad.tensor.base import TensorBase, moved, place
from pluggrad.tensor.convert import from_storage
from pluggrad.tensor.display import edges, is_shortened, tensor_text, values_text
from pluggrad.tensor.interpolation import Interpolation
from pluggrad.tensor.unpickle import destination


class Data(Interpolation):
    """Reading, copying, storing."""

    __slots__ = ()

    # ---- reading: computes the value and never cuts history ------------------------------------------------
    def numpy(self) -> npt.NDArray[Any]:
        """The values as a new NumPy array, row-major; bfloat16, which NumPy lacks, as float32."""
        return from_storage(runtime.fetch(self), self.node.dtype)

    def item(self) -> int | float | bool:
        """The one element as a Python number; ShapeError if there is not exactly one."""
        if self.numel() != 1:
            raise ShapeError(op="item", expected="one element", got=f"shape {self.shape}",
                             hint="Index or reduce it first, or read all with tolist() or numpy()")
        return self.numpy().item()  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers; a number for no axes."""
        return self.numpy().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __index__(self) -> int:
        if self.dtype.is_float:
            raise DTypeError(op="index", expected="an integer tensor", got=self.dtype.name)
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if self.numel() != 1:
            raise ShapeError(op=f"format {spec!r}", expected="one element", got=f"shape {self.shape}",
                             hint="Print the whole tensor with NumPy's print options, or index it first")
        return format(self.item(), spec)

    def __str__(self) -> str:
        return self._text(runtime.capturing())

    def __repr__(self) -> str:
        # debuggers and notebooks show many values in a row: an error in one must not hide the others
        try:
            return self._text(runtime.capturing())
        except PluggradError as error:
            return self._text(True, f"{type(error).__name__}: {error}")

    def _text(self, hidden: bool, reason: str = "") -> str:
        """The values, which are computed for it, and facts. Of a large tensor the edges are read alone."""
        node = self.node
        shortened = is_shortened(node.shape)
        if hidden:
            values = f"<not computed{': ' if reason else ''}{reason}>"
        elif shortened:
            values = values_text(edges(node.shape, self._read_part), True)
        else:
            values = values_text(self.numpy(), False)
        facts = [f"dtype={node.dtype.name}", f"device={node.device}"]
        if hidden or shortened or (node.type.size == 0 and len(node.shape) > 1):
            facts.insert(0, f"shape={node.shape}")
        if self._identity is not None and self._identity.marked:
            facts.append("requires_grad=True")
        return tensor_text(values, facts)

    def _read_part(self, start: int, count: int) -> npt.NDArray[Any]:
        return from_storage(runtime.fetch_part(self, start, count), self.node.dtype)

    # ---- facts ---------------------------------------------------------------------------------------------
    def numel(self) -> int:
        """Number of elements."""
        return self.node.type.size  # type: ignore[no-any-return]

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel() * self.element_size()

    def size(self, dim: int | None = None) -> int | tuple[int, ...]:
        """The shape, or the size of one axis."""
        return self.shape if dim is None else self.shape[dim]

    def is_floating_point(self) -> bool:
        """True for float dtypes, bfloat16 among them."""
        return self.dtype.is_float

    # ---- storing and copying -------------------------------------------------------------------------------
    def realize(self, *lst: TensorBase, do_update_stats: bool = True) -> Self:
        """Compute and store this tensor and those given, all in one; a view stores its base. Returns itself.

        do_update_stats: False leaves `GlobalCounters` as they are.
        """
        tensors: list[TensorBase] = [self, *lst]
        counted = None if do_update_stats else runtime.GlobalCounters.snapshot()
        runtime.realize([t if t._base is None else t._base for t in tensors])
        if counted is not None:
            runtime.GlobalCounters.restore(counted)
        for tensor in tensors:
            if tensor._base is not None:
                tensor.node  # noqa: B018 - composes it anew and lets go of the old graph
        return self

    def contiguous(self) -> Self:
        """The same values in memory of their own, no view of anything; the gradient passes."""
        return self._new(build.contiguous(self.node))

    def contiguous_backward(self) -> Self:
        """The same values, whose gradient is computed into memory of its own before it is passed on."""
        node = self.node
        return self._new(custom_vjp([node], [node], [], _stored_gradient)[0])

    def clone(self, device: Any = None) -> Self:
        """A copy that later writes do not reach, perhaps on another device; the gradient passes."""
        return self._new(self.node if device is None else moved(self.node, device))

    def detach(self) -> Self:
        """The same values as a tensor of its own, without history: no gradient passes."""
        return self._of(build.detach(self.node))

    def to(self, device: str | DeviceId) -> Self:
        """The tensor on another device (itself if it is there already); the gradient passes back.

        UnknownDevice or DeviceUnavailable for the device; UnsupportedDType if it does not hold the dtype.
        """
        return self if place(device) == self.node.device else self._new(moved(self.node, device))

    def to_(self, device: str | DeviceId) -> Self:
        """Move this tensor itself, and its gradient; a leaf becomes a leaf anew. Returns itself; errors as
        for `to`."""
        if place(device) != self.node.device:
            self.replace(self.to(device))
            if isinstance(self._grad, Data):
                self._grad.to_(device)
        return self

    def cpu(self) -> Self:
        """The tensor on the host's processor: `to` the device that the alias "host" means."""
        return self.to("host")

    def assign(self, x: Any) -> Self:
        """Take the values of `x`, cast and broadcast; views of this tensor see it, earlier graphs do not.

        The gradient does not flow through: a leaf becomes a leaf anew. Returns itself.
        """
        self._write(self._value_to_write(x), as_leaf=True)
        return self

    def replace(self, x: Self) -> Self:
        """Become `x`, which may differ in shape, dtype and device. A leaf stays a leaf. Returns itself."""
        if not isinstance(x, TensorBase):
            raise DTypeError(op="replace", expected="a tensor", got=type(x).__name__)
        node = x.node
        self._base = None
        if self._identity is None:
            self._node = node
        else:
            self._releaf(build.detach(node))
        return self

    # ---- copies of the object ------------------------------------------------------------------------------
    def __reduce__(self) -> tuple[Any, ...]:
        node = self.node
        return _restored, (type(self), runtime.fetch(self), node.dtype, self.device, self._flag())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = self._of(build.detach(self.node))
        if self._identity is not None:
            copied._become_leaf(copied._node, self._identity.marked)
        copied._frozen = self._frozen
        memo[id(self)] = copied
        if isinstance(self._grad, Data):
            copied._grad = self._grad.__deepcopy__(memo)
        return copied

    def __copy__(self) -> Self:
        return self.__deepcopy__({})

    def _flag(self) -> bool | None:
        """What `requires_grad` to make an equal tensor with: None is an unmarked leaf, False no leaf."""
        return False if self._frozen else (self._identity is not None and self._identity.marked) or None


def _stored_gradient(saved: tuple[Node, ...], gradients: tuple[Node | None, ...]) -> list[Node | None]:
    return [None if gradient is None else build.contiguous(gradient) for gradient in gradients]


def _restored(
    cls: type[Data], array: npt.NDArray[Any], dtype: dtypes.DType, device: str, flag: bool | None
) -> Data:
    made = cls._of(runtime.upload(array, dtype, destination(device)))
    made._become_leaf(made._node, flag)
    made._frozen = flag is False
    return made

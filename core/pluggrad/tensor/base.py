"""What every Tensor is: a handle to a graph node, and perhaps a view of another handle.

A view is a base handle and the movement steps from it. Its node is composed from the base's present node, so
a write to the base, or through any view of it, is seen by all; graphs built before keep the nodes, and so the
values, they have.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Self
from weakref import ref

from pluggrad import dtypes, runtime
from pluggrad.device.registry import REGISTRY
from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, GradientError, ValueRangeError
from pluggrad.graph import build, origin
from pluggrad.graph.leaf import Identity
from pluggrad.graph.scalar import HostRead
from pluggrad.graph.template import expand
from pluggrad.ir.node import Node, Op
from pluggrad.runtime import Handle
from pluggrad.runtime.realization import lock
from pluggrad.shape.dims import Shape
from pluggrad.target import DeviceId
from pluggrad.tensor.convert import to_array
from pluggrad.tensor.grad_mode import mode
from pluggrad.tensor.tracing import active
from pluggrad.tensor.variable import BoundVariable

_create = object.__new__
_DETACH = ("detach", None)


class TensorBase(Handle):
    """Construction, operands, views and writing: what the method families build on."""

    # _node: the node, for a view as composed from _seen, the base's node then. _steps: a chain (previous,
    # name, arg)
    # _frozen: made, or set to be, `requires_grad=False`, which optimizers heed; computed tensors are not
    # _promised: in place of a node, the result of a call, until somebody but an optimizer asks for it
    __slots__ = ("_node", "_base", "_steps", "_seen", "_identity", "_grad", "_frozen", "_promised")
    _node: Any  # a Node; None only while another thread realizes it, or where one is promised
    _base: TensorBase | None
    _steps: tuple[Any, ...] | None
    _seen: Node
    _identity: Identity | None
    _grad: Any
    _frozen: bool
    _promised: Node | None

    training: ClassVar[bool] = False
    __array_ufunc__ = None  # `array + tensor` is the tensor's business
    __array_priority__ = 1000

    # ---- making --------------------------------------------------------------------------------------------
    @classmethod
    def _of(cls, node: Node) -> Self:
        """A tensor of its own around a finished node."""
        made = _create(cls)
        made._node = node
        made._base = made._identity = made._grad = None
        made._frozen = False
        return made

    @classmethod
    def _promising(cls, result: Node) -> Self:
        """A tensor of its own around the result of a call, expanded for whoever asks for its node."""
        made = cls._of(None)  # type: ignore[arg-type]
        made._promised = result
        return made

    @classmethod
    def _made(cls, node: Node, requires_grad: bool | None = None) -> Self:
        """A tensor that the user made: a leaf with an identity, if it is float."""
        made = cls._of(node)
        made._become_leaf(node, requires_grad)
        made._frozen = requires_grad is False
        return made

    def _new(self, node: Node) -> Self:
        """The result of an operation."""
        if origin.operation is not None:
            origin.operation(node)
        made = _create(self.__class__)
        made._node = node if mode.enabled else build.detach(node)
        made._base = made._identity = made._grad = None
        made._frozen = False
        return made

    def _view(self, node: Node, *steps: build.Step) -> Self:
        """The view of this tensor through `steps`, whose node is `node` now."""
        made = _create(self.__class__)
        base, chain = self._base, None
        if base is None:
            made._base, made._seen = self, self._node
        else:
            made._base, made._seen, chain = base, base._node, self._steps
        for name, arg in steps:
            chain = (chain, name, arg)
        if not mode.enabled:
            chain, node = (chain, *_DETACH), build.detach(node)
        made._steps, made._node = chain, node
        made._identity = made._grad = None
        made._frozen = False
        return made

    def _become_leaf(self, node: Node, requires_grad: bool | None) -> None:
        if node.dtype.kind == "f" and requires_grad is not False:
            self._identity = Identity(ref(self), bool(requires_grad))
            node = build.leaf(node, self._identity)
        elif requires_grad:
            raise GradientError(op="requires_grad", expected="a float dtype", got=node.dtype.name)
        self._node = node

    @classmethod
    def _from_data(
        cls, data: Any, dtype: DType | None, device: DeviceId, requires_grad: bool | None = None
    ) -> Self:
        made = _create(cls)
        made._load(data, dtype, device, requires_grad)
        return made

    def _load(self, data: Any, dtype: DType | None, device: DeviceId, requires_grad: bool | None) -> None:
        """Become a leaf from Python or NumPy data: uploaded, or a constant where it is a single value."""
        self._base = self._identity = self._grad = None
        self._frozen = requires_grad is False
        array, found = to_array(data, dtype)
        if array.ndim == 0 and found is not dtypes.bfloat16:
            self._become_leaf(build.const(array.item(), found, device), requires_grad)
            return
        if found.is_float and requires_grad is not False:
            self._identity = Identity(ref(self), bool(requires_grad))
        elif requires_grad:
            raise GradientError(op="Tensor", expected="a float dtype with requires_grad=True", got=found.name)
        self._node = runtime.upload(array, found, device, self._identity)
        self._node.arg.owner = ref(self)  # a captured function looks the data up through their tensor

    # ---- the node ------------------------------------------------------------------------------------------
    @property
    def node(self) -> Node:
        """The graph node of the present value."""
        base = self._base
        if base is None:
            node = self._node
            return node if node is not None else self._awaited()
        if base._node is self._seen:
            return self._node  # type: ignore[no-any-return]
        self._seen = base.node
        moved = build.move(self._seen, self._path())
        self._node = moved = build.detach(moved) if self._is_detached() else moved
        return moved

    def _awaited(self) -> Node:
        """The node that was promised, or that is there after another thread's realization, which empties
        handles while it runs."""
        with lock:
            if self._node is None:
                promised = self._promise()
                if promised is not None:
                    self._keep_promise(expand((promised,))[0])
            return self._node  # type: ignore[no-any-return]

    def _promise(self) -> Node | None:
        """What is promised in place of a node."""
        return getattr(self, "_promised", None) if self._node is None else None

    def _keep_promise(self, node: Node) -> None:
        """Hold this node from now on, and nothing in its place."""
        self._node, self._promised = node, None

    def rebind(self, leaf: Node) -> None:
        """Called by the runtime: the value is stored now, `leaf` holds it. A view stays a view."""
        self._node = leaf

    def _path(self) -> tuple[build.Step, ...]:
        """The movement steps from the base to this view."""
        path = []
        chain = self._steps if self._base is not None else None
        while chain is not None:
            chain, name, arg = chain
            if (name, arg) != _DETACH:
                path.append((name, arg))
        return tuple(reversed(path))

    def _is_detached(self) -> bool:
        chain = self._steps
        while chain is not None:
            chain, name, _ = chain
            if name == _DETACH[0]:
                return True
        return False

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return self.node.type.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.node.type.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> str:
        """Name of the device that holds the value, as `Tensor(..., device=...)` takes it."""
        return str(self.node.type.device)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.node.type.shape)

    # ---- operands ------------------------------------------------------------------------------------------
    def _pair(self, other: object, op: str) -> tuple[Node, Node]:
        """Both operands as nodes. A Python scalar is weak and becomes a constant of this tensor's shape."""
        x = self.node
        if isinstance(other, TensorBase):
            return x, other.node
        if isinstance(other, (int, float, HostRead)):
            kind = x.type
            value = other.at(*other.seen) if isinstance(other, HostRead) else other
            dtype = dtypes.weak_result(kind.dtype, value, op)
            y = build.const(other, dtype, kind.device, kind.shape)
            return (x if dtype is kind.dtype else build.cast(x, dtype)), y
        if isinstance(other, BoundVariable):
            return self._pair(other.read(), op)
        return x, self._array_operand(other, op)

    def _array_operand(self, other: object, op: str) -> Node:
        try:
            return self._from_data(other, None, self.node.device, requires_grad=False).node
        except DTypeError as error:
            raise DTypeError(
                op=op, expected="a tensor, a number or an array", got=type(other).__name__
            ) from error

    def _operand(self, other: object, op: str) -> Node:
        """The second operand of `op`; MixedDevices, by that name, if it lives elsewhere."""
        x, y = self._pair(other, op)
        build.same_device(op, x, y)
        return y

    def _binary(self, op: Op, other: object, reverse: bool = False) -> Self:
        x, y = self._pair(other, op.name.lower())
        return self._new(build.binary(op, y, x) if reverse else build.binary(op, x, y))

    def _unary(self, op: Op) -> Self:
        """An elementwise function of floats; integers and bool are taken to the default float."""
        x = self.node
        if x.type.dtype.kind != "f":
            x = build.cast(x, dtypes.default_float)
        return self._new(build.unary(op, x))

    # ---- writing -------------------------------------------------------------------------------------------
    def _write(self, value: Node, steps: Sequence[build.Step] = (), *, as_leaf: bool = False,
               write: Callable[[Node, Node, tuple[build.Step, ...]], Node] = build.update) -> None:
        """Write `value` at `steps` of this tensor: its base, and so every view of it, takes a new version.

        write: makes that version from the old one, the value and the view.

        The gradient flows to `value` and to what was not overwritten, except where the tensor is a leaf that
        must stay one: a marked one, one written under `no_grad`, or `as_leaf`. Then it becomes a leaf anew.
        """
        base: TensorBase = self if self._base is None else self._base
        for trace in active.traces:
            trace.writing(base)
        if runtime.capturing():  # a replay repeats what ran, so this has to run
            runtime.add_pending(base)
        path = (*self._path(), *steps)
        if any(name == "expand" for name, _ in path):
            raise ValueRangeError(op="setitem", expected="a target whose elements have memory of their own",
                                  got="a view by expand", hint="write to its base, or to a clone()")
        before, identity = base._node, base._identity
        if identity is None and not as_leaf:
            base._node = write(before, value if mode.enabled else build.detach(value), path)
            return
        if mode.enabled and not as_leaf and identity is not None and not identity.marked:
            base._node = write(before, value, path)
            return
        if as_leaf:
            write = partial(build.update, op="assign")
        base._releaf(write(build.detach(before), build.detach(value), path))

    def _releaf(self, node: Node) -> None:
        """Take a new value as a leaf anew, to be computed with the next that is."""
        self._overwrite(node)
        runtime.add_pending(self)

    def _overwrite(self, node: Node) -> None:
        """Take a new value, as a leaf anew; gradients of earlier graphs no longer reach this tensor."""
        before, self._identity = self._identity, None
        if before is not None:
            before.handle = None
        self._become_leaf(node, False if before is None else before.marked or None)

    def _take_back(self, version: runtime.BufferVersion) -> None:
        """Hold this version, which the tensor held before it was written to, again."""
        version.identity = self._identity
        self._node = runtime.buffer(version, self.shape, self.dtype)


def place(device: str | DeviceId | None) -> DeviceId:
    """The device asked for, or the default one; it exists, or an error says why not."""
    return REGISTRY.resolve(device)


def moved(node: Node, device: str | DeviceId) -> Node:
    """`node` on that device; UnsupportedDType, before anything is copied, if the device lacks its dtype."""
    where = place(device)
    runtime.require_dtype(where, node.dtype)
    return build.copy(node, where)


def is_view_of_same(value: object, target: TensorBase, steps: Sequence[build.Step]) -> bool:
    """True if `value` is the very view that would be written: `x[i] += 1` writes through the view first."""
    if not isinstance(value, TensorBase) or value._base is None:
        return False
    base = target if target._base is None else target._base
    return value._base is base and value._path() == (*target._path(), *steps)

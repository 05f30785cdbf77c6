"""Updates that are built once, as a template, and called at every step."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pluggrad.dtypes import DType
from pluggrad.graph import build, ops, scalar
from pluggrad.graph.leaf import stand_in
from pluggrad.graph.scalar import Derive, HostValue
from pluggrad.graph.template import Template
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.target import DeviceId

Build = Callable[[Node, Node, dict[str, Node]], tuple[Node, dict[str, Node]]]


class Number:
    """A constant that host values are behind, as a node that is made anew when they change."""

    __slots__ = ("_hosts", "_derive", "_dtype", "_device", "_seen", "_node")

    def __init__(self, hosts: tuple[HostValue, ...], derive: Derive | None, dtype: DType,
                 device: DeviceId) -> None:
        self._hosts, self._derive, self._dtype, self._device = hosts, derive, dtype, device
        self._seen: list[Any] | None = None
        self._node: Node

    def node(self) -> Node:
        """The constant for the present values."""
        seen = [host.value for host in self._hosts]
        if seen != self._seen:
            read = scalar.read(self._hosts, self._derive)
            self._node, self._seen = build.const(read, self._dtype, self._device), seen
        return self._node


class Update(NamedTuple):
    """The new value of a tensor and of `states`, as a template over (tensor, gradient, *kept, *numbers)."""

    template: Template
    states: tuple[str, ...]
    numbers: tuple[Number, ...]

    def __call__(self, param: Node, grad: Node, kept: dict[str, Node]) -> list[Node]:
        """The new value, and those of `states` in their order."""
        return self.template.call(param, grad, *kept.values(), *[number.node() for number in self.numbers])


class Updates:
    """Those of one optimizer, by all that they depend on."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Update] = {}
        self._numbers: dict[tuple[Any, ...], Number] = {}

    def get(self, key: tuple[Any, ...]) -> Update | None:
        """The update that was made for `key`."""
        return self._made.get(key)

    def make(self, key: tuple[Any, ...], param: TensorType, grad: TensorType, kept: dict[str, TensorType],
             build: Build) -> Update:
        """What `build` makes of a tensor, its gradient and what is kept beside it, for later calls too."""
        p, g = stand_in(param, "step"), stand_in(grad, "step")
        beside = {name: stand_in(kind, "step") for name, kind in kept.items()}
        value, states = build(p, g, beside)
        results = [value, *states.values()]
        constants = [n for n in toposort(results) if n.op is ops.CONST and n.arg.source is not None]
        places = {name: 2 + i for i, name in enumerate(beside)}
        overwrites = [0, *[places[name] for name in states]]
        made = Template([p, g, *beside.values(), *constants], results, overwrites)
        found = self._made[key] = Update(made, tuple(states), tuple([self._number(n) for n in constants]))
        return found

    def _number(self, n: Node) -> Number:
        source = n.arg.source
        key = source.hosts, source.derive, n.dtype, n.device
        return self._numbers.setdefault(key, Number(*key))

"""Updates that are built once, as a template, and called at every step."""
from __future__ import annotations

from collections.abc import Callable, Sequence
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

    __slots__ = ("_hosts", "_derive", "_dtype", "_device", "_seen", "node")

    def __init__(self, hosts: tuple[HostValue, ...], derive: Derive | None, dtype: DType,
                 device: DeviceId) -> None:
        self._hosts, self._derive, self._dtype, self._device = hosts, derive, dtype, device
        self._seen: list[Any] | None = None
        self.node: Node
        self.read()

    def read(self) -> None:
        """Take the present values."""
        seen = [host.value for host in self._hosts]
        if seen != self._seen:
            read = scalar.read(self._hosts, self._derive)
            self.node, self._seen = build.const(read, self._dtype, self._device), seen


class Update(NamedTuple):
    """The new value of a tensor and of `states`, as a template over (tensor, gradient, *kept, *numbers)."""

    template: Template
    states: tuple[str, ...]
    numbers: tuple[Number, ...]

    def __call__(self, *nodes: Node) -> list[Node]:
        """The new value, and those of `states` in their order."""
        return self.template.call(*nodes, *[number.node for number in self.numbers])


class Updates:
    """Those of one optimizer, by what they depend on: switches of all groups, then a key for each tensor."""

    def __init__(self) -> None:
        self._made: dict[object, dict[object, Update]] = {}
        self._now: dict[object, Update] = {}
        self._numbers: dict[tuple[Any, ...], Number] = {}

    def read(self, switches: Sequence[object]) -> None:
        """Take the present values of options, before a step."""
        self._now = self._made.setdefault(tuple(switches), {})
        for number in self._numbers.values():
            number.read()

    def get(self, key: object) -> Update | None:
        """The update that was made for `key`."""
        return self._now.get(key)

    def make(self, key: object, types: Sequence[TensorType], names: Sequence[str], build: Build) -> Update:
        """What `build` makes of a tensor, its gradient and what is kept beside it under `names`, for later
        calls too."""
        param, grad, *beside = stands = [stand_in(kind, "step") for kind in types]
        value, states = build(param, grad, dict(zip(names, beside, strict=True)))
        results = [value, *states.values()]
        constants = [n for n in toposort(results) if n.op is ops.CONST and n.arg.source is not None]
        overwrites = [0, *[2 + names.index(name) for name in states]]
        made = Template([*stands, *constants], results, overwrites)
        found = self._now[key] = Update(made, tuple(states), tuple([self._number(n) for n in constants]))
        return found

    def _number(self, n: Node) -> Number:
        source = n.arg.source
        key = source.hosts, source.derive, n.dtype, n.device
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = Number(*key)
        return found

"""Many results from one realization: kernels compiled together cost less, and each test reads its own."""
from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from pluggrad import runtime
from pluggrad.ir.node import Node
from pluggrad.tensor.convert import from_storage
from pluggrad.testing.conformance.reference import Array
from pluggrad.testing.conformance.subject import Subject

Results = dict[Hashable, Any]
_batches: WeakKeyDictionary[Subject, dict[Hashable, Results]] = WeakKeyDictionary()


class _Value(runtime.Handle):
    """A handle that waits to be realized."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def node(self) -> Node:
        return self._node

    def rebind(self, leaf: Node) -> None:
        self._node = leaf


def realized(nodes: Mapping[Any, Node]) -> dict[Any, Array]:
    """The values of graph nodes, computed together; bfloat16 as float32."""
    handles = {key: _Value(node) for key, node in nodes.items()}
    runtime.realize(list(handles.values()))
    return {key: from_storage(runtime.read(handle.node), handle.node.dtype)
            for key, handle in handles.items()}


def value(subject: Subject, group: Hashable, key: Hashable, make: Callable[[], Mapping[Any, Node]]) -> Array:
    """The value `key` of a group, which is computed whole when first asked for (unless tests are `alone`).

    A group that fails as a whole is computed value by value, so that only those fail that are to blame.
    """
    if subject.alone:
        return realized({key: make()[key]})[key]
    groups = _batches.setdefault(subject, {})
    if group not in groups:
        groups[group] = _results(make())
    result = groups[group][key]
    if isinstance(result, Exception):
        raise result
    return result  # type: ignore[no-any-return]


def _results(nodes: Mapping[Any, Node]) -> Results:
    try:
        return dict(realized(nodes))
    except Exception:
        return {key: _alone(node) for key, node in nodes.items()}


def _alone(node: Node) -> Any:
    try:
        return realized({"": node})[""]
    except Exception as error:
        return error

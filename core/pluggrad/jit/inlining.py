"""function: the graph of a pure function, built once for each kind of call and put into others after that."""
from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from pluggrad import dtypes
from pluggrad.graph import build, ops
from pluggrad.graph import scalar as host_values
from pluggrad.graph.leaf import stand_in
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import toposort
from pluggrad.jit.closure import reached
from pluggrad.jit.frozen import frozen
from pluggrad.runtime import realization as realizing
from pluggrad.tensor import Tensor
from pluggrad.tensor.base import TensorBase, place
from pluggrad.tensor.grad_mode import mode
from pluggrad.tensor.precision import mode as autocasting
from pluggrad.tensor.random_state import random_bits
from pluggrad.tensor.tracing import Trace, traced
from pluggrad.tensor.variable import BoundVariable
from pluggrad.transform.containers import flatten, rebuild

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class _Template:
    """A graph with holes, which the arguments fill, and after them the tensors from outside.

    steps: what depends on a hole, a draw or a host value, sources first.
    """

    form: Any
    roots: list[Node]
    holes: list[Node]
    outside: list[tuple[TensorBase, TensorType]]
    draws: list[Node]
    steps: list[Node]

    def fits(self) -> bool:
        """Whether the tensors from outside are as they were in shape, dtype and device."""
        return all(tensor.node.type is kind for tensor, kind in self.outside)

    def filled(self, arguments: Iterable[Tensor], draws: Iterable[Node]) -> Any:
        """The result of one call."""
        given = [*[t.node for t in arguments], *[t.node for t, _ in self.outside]]
        made = dict(zip([*self.holes, *self.draws], [*given, *draws], strict=True))
        for n in self.steps:
            if n not in made:
                made[n] = _anew(n) if n.op is ops.CONST else node(
                    n.op, tuple([made.get(s, s) for s in n.src]), n.arg, n.type)
        return rebuild(self.form, lambda i: Tensor._of(made.get(self.roots[i], self.roots[i])))


class GraphFunction(Generic[P, R]):
    """What `function` returns: call it like the function. `traces` counts how often that was called."""

    def __init__(self, function: Callable[P, R]) -> None:
        self._function = function
        self._templates: dict[Any, _Template] = {}
        self.traces = 0
        functools.update_wrapper(self, function, updated=())

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        tensors: list[Tensor] = []
        bound: list[BoundVariable] = []
        description = flatten((args, kwargs), tensors, frozen("argument", bound))
        key = (description, tuple(bound), tuple([t.node.type for t in tensors]), Tensor.training,
               mode.enabled, place(None), autocasting.casting, dtypes.default_float, dtypes.default_int)
        found = self._templates.get(key)
        if found is not None and found.fits():
            redrawn = [random_bits(bits.shape, bits.device) for bits in found.draws]
            return found.filled(tensors, redrawn)  # type: ignore[no-any-return]
        with realizing.lock:  # tensors from outside hold stand-ins for a moment
            found = self._templates[key] = self._trace(args, kwargs, tensors)
        self.traces += 1
        return found.filled(tensors, found.draws)  # type: ignore[no-any-return]

    def _trace(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> _Template:
        form = flatten((args, kwargs), [], lambda value: (value,))
        inside = [Tensor._of(stand_in(t.node.type, "function")) for t in tensors]
        outside = _outside((self._function, args, kwargs), tensors)
        before = [(t, t._node, t._identity) for t in outside]
        holes = [t.node for t in inside]
        kinds = [t.node.type for t in outside]
        inner_args, inner_kwargs = rebuild(form, inside.__getitem__)
        outputs: list[Tensor] = []
        try:
            for t in outside:
                hole = stand_in(t.node.type, "function")
                t._node = hole if t._identity is None else build.leaf(hole, t._identity)
                holes.append(t._node)
            with traced(Trace("function")) as trace:
                result = self._function(*inner_args, **inner_kwargs)
            result_form = flatten(result, outputs, frozen("result", []))
            roots = [t.node for t in outputs]
            del result, outputs
            trace.refuse_written(lambda node: True)
        finally:
            for t, known, identity in before:
                t._node, t._identity = known, identity
        steps, found = _depending(roots, {*holes, *trace.draws}), list(zip(outside, kinds, strict=True))
        return _Template(result_form, roots, holes, found, trace.draws, steps)


def _outside(parts: Any, arguments: list[Tensor]) -> list[TensorBase]:
    """The tensors that a function reaches without being given them; of views, what they are views of."""
    given = set(map(id, arguments))
    found = {id(t): t for t in [t if t._base is None else t._base for t in reached(parts)]}
    return [t for t in found.values() if id(t) not in given]


def _depending(roots: list[Node], holes: set[Node]) -> list[Node]:
    """What differs from call to call, sources first."""
    changing = set(holes)
    order = toposort(roots, lambda n: () if n in holes else n.src)
    for n in order:
        if not changing.isdisjoint(n.src) or (n.op is ops.CONST and n.arg.source is not None):
            changing.add(n)
    return [n for n in order if n in changing]


def _anew(n: Node) -> Node:
    """A constant that is read from host values, read again."""
    source = n.arg.source
    return build.const(host_values.read(source.hosts, source.derive), n.dtype, n.device, n.shape)


def function(fn: Callable[P, R]) -> GraphFunction[P, R]:
    """A pure function of tensors whose Python code runs once for each kind of call, as a decorator.

    Its graph is kept and put into the graphs of later calls with equal shapes, dtypes, devices and other
    arguments, which saves the time that its Python code takes; unlike a `jit`, it computes nothing by itself.
    Gradients flow through, `grad`, `vmap` and `jit` see its operations, random numbers are drawn anew.
    Tensors that it finds elsewhere (weights, global variables) are looked up at each call; other Python
    values are as they were in the first. TransformError if it reads a value, calls `backward` or assigns
    tensors from outside.

        @pluggrad.function
        def block(x, weight):
            return (x @ weight).gelu()
    """
    return GraphFunction(fn)

"""Gradient checkpointing: what lies between the arguments and the result of a call is computed again."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pluggrad import autograd
from pluggrad.graph import build, custom, ops
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import toposort
from pluggrad.tensor import Tensor
from pluggrad.tensor.grad_mode import mode
from pluggrad.transform.containers import flatten, rebuild

_ENDS = frozenset({ops.LEAF, ops.BUFFER, ops.STAND_IN})  # what holds data, which is there anyway


def checkpoint(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`fn(*args, **kwargs)`, of which the gradient keeps only the arguments, not what is computed inside.

    That is computed again when the gradient reaches the call: about a third more work for a training step
    that holds the activations of one such call at a time. Values and gradients are the same, of any order,
    also by tensors that `fn` finds elsewhere (the weights of a model); random numbers come out the same.
    Arguments and results may be nested as for `grad`. `fn` is called once.

        for block in blocks:
            x = checkpoint(block, x)
    """
    result = fn(*args, **kwargs)
    given: list[Tensor] = []
    outputs: list[Tensor] = []
    flatten((args, kwargs), given)
    form = flatten(result, outputs)
    if not mode.enabled or not any(t.dtype.is_float for t in outputs):
        return result
    values = [t.node for t in outputs]
    arguments = frozenset([t.node for t in given])
    order = toposort(values, lambda n: () if n in arguments else _sources(n))
    ends = tuple([n for n in order if n in arguments or n.op in _ENDS])
    if not ends:
        return result
    wrapped = custom.custom_vjp(values, ends, ends, _Recomputed(tuple(values), ends))
    return rebuild(form, lambda i: outputs[i]._new(wrapped[i]))


def _sources(n: Node) -> tuple[Node, ...]:
    return () if n.op in _ENDS else n.src


class _Recomputed(NamedTuple):
    """The rule: `values` once more, from `ends`, once the gradients are there, and their gradient."""

    values: tuple[Node, ...]
    ends: tuple[Node, ...]

    def __call__(self, saved: tuple[Node, ...], gradients: tuple[Node | None, ...]) -> Sequence[Node | None]:
        waited = [g for g in gradients if g is not None and g.op is not ops.CONST]
        anew = [_after(x, waited) for x in saved]
        values = self._again(dict(zip(self.ends, anew, strict=True)), waited)
        seeds: dict[Node, Node] = {}
        for value, g in zip(values, gradients, strict=True):
            if g is not None:
                seeds[value] = build.binary(ops.ADD, seeds[value], g) if value in seeds else g
        found = autograd.propagate(autograd.trace(*seeds).order, seeds, anew)
        return [found.get(x) for x in anew]

    def _again(self, made: dict[Node, Node], waited: Sequence[Node]) -> list[Node]:
        """The values from other ends. Bits are drawn again, too, or they would be kept."""
        for n in toposort(self.values, lambda n: () if n in made else n.src):
            if n in made:
                continue
            sources = [made[s] for s in n.src]
            if n.op is ops.RANDOM_BITS:
                sources[2] = _after(sources[2], waited)
            made[n] = node(n.op, tuple(sources), n.arg, n.type)
        return [made[value] for value in self.values]


def _after(x: Node, waited: Sequence[Node]) -> Node:
    for g in waited:
        x = build.barrier(x, g)
    return x

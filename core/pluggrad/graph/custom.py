"""Calls whose gradient has a rule of its own: outputs are wrapped, and meet in one node on the way back."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pluggrad import dtypes
from pluggrad.errors import GradientError
from pluggrad.graph import build, ops
from pluggrad.graph.types import TensorType, tensor_type
from pluggrad.ir.node import Node, node


class Rule(Protocol):
    """How gradients pass through a call."""

    def __call__(self, saved: tuple[Node, ...],
                 gradients: tuple[Node | None, ...], /) -> Sequence[Node | None]:
        """The gradient of each input or None, from what was saved and the gradients of the outputs, which are
        None where these are not float."""


class VjpCall(NamedTuple):
    """The rule and the sizes of its parts. aliases: (position in what is saved, output that stands there)."""

    rule: Rule
    inputs: int
    outputs: tuple[TensorType, ...]
    aliases: tuple[tuple[int, int], ...]


def custom_vjp(values: Sequence[Node], inputs: Sequence[Node], saved: Sequence[Node],
               rule: Rule) -> list[Node]:
    """`values`, computed from `inputs`, whose gradients `rule` passes on to the inputs.

    saved: what the rule needs; gradients of higher order flow through it. One of the values reaches the rule
    as the wrapped output, whose gradient is again the rule's.
    """
    own = [value for value in values if value not in inputs]
    aliases = tuple([(i, values.index(kept)) for i, kept in enumerate(saved) if kept in own])
    arg = VjpCall(rule, len(inputs), tuple([value.type for value in values]), aliases)
    call = node(ops.VJP_CALL, (*inputs, *saved), arg, tensor_type((0,), dtypes.float32, values[0].device))
    return [_output(value, call, i) for i, value in enumerate(values)]


def _output(value: Node, call: Node, number: int) -> Node:
    return node(ops.CUSTOM_VJP, (value, call), number, value.type)


def input_gradients(call: Node, found: dict[int, Node]) -> list[Node | None]:
    """The gradient of each input of a call, given those of its outputs; GradientError for a wrong shape."""
    arg: VjpCall = call.arg
    inputs, saved = call.src[:arg.inputs], list(call.src[arg.inputs:])
    for position, output in arg.aliases:
        saved[position] = _output(saved[position], call, output)
    given = tuple([found.get(i) or _zero(kind) for i, kind in enumerate(arg.outputs)])
    results = list(arg.rule(tuple(saved), given))
    return [_checked(result, x, i) for i, (result, x) in enumerate(zip(results, inputs, strict=True))]


def _zero(kind: TensorType) -> Node | None:
    return build.const(0.0, kind.dtype, kind.device, kind.shape) if kind.dtype.is_float else None


def _checked(result: Node | None, x: Node, position: int) -> Node | None:
    if result is None or not x.dtype.is_float:
        return None
    if result.shape != x.shape or not result.dtype.is_float or result.device != x.device:
        raise GradientError(op="custom_vjp", got=f"{result.type} on {result.device}",
                            expected=f"floats of shape {x.shape} on {x.device} for input {position}")
    return build.cast(result, x.dtype)

"""Index expressions that are a constant plus a stride along each axis."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pluggrad.ir.node import Node
from pluggrad.kernel import ops


@dataclass(frozen=True, slots=True)
class Affine:
    """`offset` plus, for each axis id, its position times a stride; all in elements."""

    offset: int
    strides: Mapping[int, int]

    def bounds(self, extents: Mapping[int, int]) -> tuple[int, int]:
        """The least and the greatest value over axes of these extents, none of them empty."""
        reach = [stride * (extents[axis] - 1) for axis, stride in self.strides.items()]
        return self.offset + sum(r for r in reach if r < 0), self.offset + sum(r for r in reach if r > 0)


def _combine(x: Affine, y: Affine, sign: int) -> Affine:
    axes = {**x.strides, **y.strides}
    strides = {axis: x.strides.get(axis, 0) + sign * y.strides.get(axis, 0) for axis in axes}
    return Affine(x.offset + sign * y.offset, strides)


def _product(x: Affine, y: Affine) -> Affine | None:
    if x.strides and y.strides:
        return None
    factor, other = (y.offset, x) if x.strides else (x.offset, y)
    return Affine(other.offset * factor, {axis: stride * factor for axis, stride in other.strides.items()})


_RULES: Final[dict[str, Callable[..., Affine | None]]] = {
    "ADD": lambda x, y: _combine(x, y, 1),
    "SUB": lambda x, y: _combine(x, y, -1),
    "NEG": lambda x: _combine(Affine(0, {}), x, -1),
    "MUL": _product,
}


def affine_indices(order: Iterable[Node]) -> dict[Node, Affine]:
    """The affine form of each integer node that has one; `order` lists sources before users."""
    found: dict[Node, Affine] = {}
    for node in order:
        if node.op is ops.AXIS:
            found[node] = Affine(0, {node.arg: 1})
        elif node.op is ops.CONST and node.type.is_int:
            found[node] = Affine(node.arg.of(node.type), {})
        elif node.op.name in _RULES and node.type.is_int and all(s in found for s in node.src):
            form = _RULES[node.op.name](*[found[s] for s in node.src])
            if form is not None:
                found[node] = form
    return found

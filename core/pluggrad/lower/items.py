"""Instructions while they are being placed: items in blocks, numbered when all is there."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.ir.node import Node
from pluggrad.lower.program import Instr


@dataclass(eq=False, slots=True)
class Item:
    """An instruction whose operands are items; a block holds its own items."""

    op: str
    dtype: DType | None
    src: tuple[Item, ...] = ()
    arg: Any = None
    axes: tuple[int, ...] = ()
    body: list[Item] | None = None
    otherwise: list[Item] | None = None


@dataclass(eq=False, slots=True)
class Block:
    """An open block: loop axes bound here and further out, its items, and which nodes they compute.

    fills: local buffers that its loop stores to.
    """

    bound: frozenset[int]
    items: list[Item] = field(default_factory=list)
    memo: dict[Node, Item] = field(default_factory=dict)
    fills: frozenset[int] = frozenset()


def is_true(item: Item) -> bool:
    """Whether an item is the constant true."""
    return item.op == "CONST" and item.dtype is dtypes.bool_ and item.arg is True


def flatten(items: list[Item]) -> tuple[Instr, ...]:
    """Number the items and close the blocks."""
    out: list[Instr] = []
    number: dict[Item, int] = {}

    def add(item: Item) -> None:
        number[item] = len(out)
        out.append(Instr(item.op, item.dtype, tuple([number[s] for s in item.src]), item.arg, item.axes))
        if item.body is None:
            return
        for inner in item.body:
            add(inner)
        if item.otherwise is not None:
            out.append(Instr("ELSE", None))
            for inner in item.otherwise:
                add(inner)
        out.append(Instr("END", None))

    for item in items:
        add(item)
    return tuple(out)

"""Node graphs as text, one numbered line a node, and back.

    %3 = add(%1, %2): float32[64,64]
    %4 = reduce[ADD, (2,)](%3): float32

Numbers follow the fixed order of `toposort`, so equal graphs print equal text in every process.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pluggrad.dtypes import DType, by_name
from pluggrad.errors import FileFormatError
from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.walk import toposort

_LINE: Final = re.compile(
    r"%(?P<number>\d+) = (?P<op>[a-z0-9_]+)(\[(?P<arg>.*)\])?(\((?P<src>[%\d, ]*)\))?(: (?P<type>\w+))?")

_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")


def arg_text(arg: Any) -> str:
    """An argument as text: names bare, tuples without outer parentheses, other things as `str` has them.

    Addresses are left out, so that text never differs between processes.
    """
    if isinstance(arg, tuple) and not hasattr(arg, "_fields"):
        return ", ".join(_item_text(item) for item in arg) + ("," if len(arg) == 1 else "")
    return _item_text(arg)


def _item_text(item: Any) -> str:
    if isinstance(item, tuple) and not hasattr(item, "_fields"):
        return f"({arg_text(item)})"
    if isinstance(item, str):
        return item
    return _ADDRESS.sub("", str(item))


def type_text(type: Any) -> str:
    """`float32`, or `float32[64,64]` for a type that has a shape."""
    if isinstance(type, DType):
        return type.name
    shape = getattr(type, "shape", None)
    if shape is None:
        return str(type)
    return f"{type.dtype.name}[{','.join(map(str, shape))}]"


def node_text(current: Node, numbers: Mapping[Node, int], arg: Callable[[Node], str] | None = None) -> str:
    """One line; sources are named by `numbers`. An argument that is written as "" is left out."""
    head = f"%{numbers[current]} = {current.op.name.lower()}"
    argument = "" if current.arg is None else arg(current) if arg else arg_text(current.arg)
    if argument:
        head += f"[{argument}]"
    if current.src:
        head += f"({', '.join(f'%{numbers[s]}' for s in current.src)})"
    return head if current.type is None else f"{head}: {type_text(current.type)}"


def graph_text(roots: Iterable[Node], arg: Callable[[Node], str] | None = None) -> str:
    """Every node reachable from `roots`, sources first; `arg` overrides how arguments are written."""
    order = toposort(roots)
    numbers = {current: i for i, current in enumerate(order)}
    return "\n".join(node_text(current, numbers, arg) for current in order)


def parse_graph(lines: Iterable[str], op_set: Mapping[str, Op],
                arg: Callable[[Op, str | None, DType | None], Any]) -> list[Node]:
    """The nodes of `graph_text`, in its order, for a stage whose types are dtypes.

    `arg(op, text, dtype)` reads an argument, ValueError if it cannot; text is None where there is none.
    FileFormatError names the first line that cannot be read.
    """
    nodes: dict[int, Node] = {}
    for line in lines:
        match = _LINE.fullmatch(line.strip())
        op = op_set.get(match["op"].upper()) if match else None
        sources = re.findall(r"%(\d+)", match["src"] or "") if match else []
        if match is None or op is None or op.arity not in (-1, len(sources)):
            expected = "a line like '%3 = add(%1, %2): float32'"
            raise FileFormatError(op="parse", expected=expected, got=repr(line))
        try:
            dtype = by_name(match["type"]) if match["type"] else None
            src = tuple([nodes[int(number)] for number in sources])
            argument = arg(op, match["arg"], dtype)
        except (KeyError, ValueError, SyntaxError, TypeError) as error:
            expected = "known sources, an argument and a dtype"
            raise FileFormatError(op="parse", expected=expected, got=repr(line)) from error
        nodes[int(match["number"])] = node(op, src, argument, dtype)
    return list(nodes.values())

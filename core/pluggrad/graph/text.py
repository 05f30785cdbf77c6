"""Graphs as text: scalars by value or by the host value they are read from, leaves without their identity."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pluggrad.graph import ops
from pluggrad.graph.scalar import Scalar, ValueSlot
from pluggrad.ir import text
from pluggrad.ir.node import Node, Op


def graph_text(roots: Iterable[Node]) -> str:
    """Every node reachable from `roots`, a numbered line each, sources first."""
    return text.graph_text(roots, arg_text)


def node_text(node: Node, numbers: Mapping[Node, int]) -> str:
    """One line; sources are named by `numbers`."""
    return text.node_text(node, numbers, arg_text)


def arg_text(node: Node) -> str:
    """The argument of a graph node as text that is the same in every process."""
    write = _WRITERS.get(node.op)
    return write(node.arg) if write else text.arg_text(node.arg)


def _const(arg: Scalar | ValueSlot) -> str:
    if isinstance(arg, ValueSlot):
        return f"value {arg.slot}"
    if arg.source is not None:
        return ", ".join([host.name or "host value" for host in arg.source.hosts])
    return repr(arg.python)


def _update(steps: tuple[tuple[str, Any], ...]) -> str:
    return "; ".join(f"{name} {text.arg_text(arg)}" for name, arg in steps)


def _gather(arg: ops.Gather) -> str:
    return f"axis {arg.axis}{_checked(arg)}"


def _scatter(arg: ops.Scatter) -> str:
    view = f" of {_update(arg.view)}" if arg.view else ""
    return f"{arg.mode} axis {arg.axis}{view}{_checked(arg)}"


def _scan(arg: ops.Scan) -> str:
    return f"{arg.name} axis {arg.axis}"


def _host_call(arg: ops.HostCall) -> str:
    attributes = ", ".join([f"{name}={value!r}" for name, value in arg.attributes])
    return f"{arg.function}({attributes}) result {arg.result}"


def _checked(arg: ops.Gather | ops.Scatter) -> str:
    known = ", in range" if arg.check is None else f", checked as {arg.check.op}"
    return f"{known}, each once" if arg.unique else known


_WRITERS: Final[dict[Op, Callable[[Any], str]]] = {
    ops.CONST: _const,
    ops.EXTERN: _host_call,
    ops.STAND_IN: lambda identity: identity.op,
    ops.VJP_CALL: lambda call: f"{call.inputs} inputs, {len(call.outputs)} outputs",
    ops.LEAF: lambda identity: "marked" if identity.marked else "",
    ops.UPDATE: _update,
    ops.SCAN: _scan,
    ops.GATHER: _gather,
    ops.SCATTER: _scatter,
}

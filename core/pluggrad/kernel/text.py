"""Kernels as text, and back, exactly: what `explain` shows, golden tests compare, and caches digest.

    kernel relu
    buffer 0: in float32[4096]
    axis 0: PARALLEL 4096
    %0 = axis[0]: int64
    ...
"""
from __future__ import annotations

import math
import re
from ast import literal_eval
from hashlib import sha256
from typing import Any, Final, cast

from pluggrad.dtypes import ALL, DType, by_name
from pluggrad.errors import FileFormatError
from pluggrad.graph.ops import ELEMENTWISE
from pluggrad.ir.node import Node, Op
from pluggrad.ir.text import arg_text, graph_text, parse_graph
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, AxisKind, BufferParam, ConstBits, Kernel, Role, const

_DTYPE: Final = "|".join(dtype.name for dtype in ALL)
_BUFFER: Final = re.compile(r"buffer \d+: (in|out|inout|status|local) (" + _DTYPE
                            + r")\[(\d+)\]( streamed)?( ahead (\d+))?( stages (\d+))?( kept (\d+))?")
_VALUE: Final = re.compile(r"value \d+: (" + _DTYPE + ")")
_WITHOUT_ARG: Final = ELEMENTWISE | {ops.CDIV, ops.CMOD, ops.DOT2}
_AXIS: Final = re.compile(r"axis (\d+): (PARALLEL|ITEM|LOOP|REDUCE|UNROLL|TILE|VECTOR|MATRIX|BOX) (\d+)")


def kernel_text(kernel: Kernel) -> str:
    """The kernel as lines; `parse_kernel` gives an equal kernel back."""
    name = " ".join(kernel.name.split())  # one line, whatever a name holds
    return f"kernel {name}\n{_code_text(kernel)}\n"


def summary(kernel: Kernel) -> list[str]:
    """A few lines for people: buffers, axes with their kinds, and what the body holds."""
    order = toposort(kernel.stores)
    values = f" and {len(kernel.values)} values" if kernel.values else ""
    reduced = [n.arg for n in order if n.op is ops.REDUCE]
    reductions = ", ".join(f"{name} over {' '.join(map(str, axes))}" for name, axes in reduced)
    body = f"{len(order)} nodes" + (f", reduces {reductions}" if reductions else "")
    return [f"{kernel.name}: {body}", f"  takes {buffers_text(kernel)}{values}",
            f"  axes {axes_text(kernel)}"]


def buffers_text(kernel: Kernel) -> str:
    """What is read and written, with dtypes and sizes in elements, on one line."""
    return ", ".join(f"{b.role} {b.dtype.name}[{b.size}]" for b in kernel.buffers)


def axes_text(kernel: Kernel) -> str:
    """The axes in order, on one line."""
    return ", ".join(f"{a.id} {a.kind} {a.extent}" for a in kernel.axes) or "none"


def buffer_text(number: int, buffer: BufferParam) -> str:
    """A line for one buffer."""
    streamed = " streamed" * buffer.streamed
    ahead = f" ahead {buffer.ahead}" if buffer.ahead else ""
    stages = f" stages {buffer.stages}" if buffer.stages > 1 else ""
    kept = f" kept {buffer.kept}" if buffer.kept else ""
    return f"buffer {number}: {buffer.role} {buffer.dtype.name}[{buffer.size}]{streamed}{ahead}{stages}{kept}"


def digest(kernel: Kernel) -> str:
    """A sha256 in hexadecimal of everything but the name: equal for equal code, in every process."""
    return sha256(_code_text(kernel).encode()).hexdigest()


def _code_text(kernel: Kernel) -> str:
    lines = [buffer_text(i, b) for i, b in enumerate(kernel.buffers)]
    lines += [f"value {i}: {dtype.name}" for i, dtype in enumerate(kernel.values)]
    lines += [f"axis {axis.id}: {axis.kind} {axis.extent}" for axis in kernel.axes]
    return "\n".join([*lines, graph_text(kernel.stores, _arg_text)])


def _arg_text(node: Node) -> str:
    if node.op is not ops.CONST:
        return arg_text(node.arg)
    value = node.arg.of(node.type)
    # Python's shortest form of a float reads back to the same bits; only NaN has several
    return f"nan:{node.arg.bits:#x}" if isinstance(value, float) and math.isnan(value) else str(value)


def _parse_const(text: str, dtype: DType) -> ConstBits:
    if text.startswith("nan:"):
        return ConstBits(int(text[4:], 16), True)
    if dtype.is_float:
        return cast(ConstBits, const(float(text), dtype).arg)
    return ConstBits(int(text == "True") if dtype.kind == "b" else int(text), False)


def _parse_arg(op: Op, text: str | None, dtype: DType | None) -> Any:
    if (text is None) != (op in _WITHOUT_ARG):
        raise ValueError(op.name)
    if text is None:
        return None
    if op is ops.CONST and dtype is not None:
        return _parse_const(text, dtype)
    if op in (ops.REDUCE, ops.SCAN):
        name, axes = text.split(", ", 1)
        return name, literal_eval(axes)
    if op is ops.STORE and not text.endswith(")"):
        slot_and_axes, name = text.rsplit(", ", 1)
        return *literal_eval(slot_and_axes), name
    return literal_eval(text)


def parse_kernel(text: str) -> Kernel:
    """The kernel that `kernel_text` wrote; FileFormatError for anything else."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("kernel"):
        raise FileFormatError(op="parse_kernel", expected="a first line 'kernel NAME'", got=repr(text[:60]))
    buffers = [match for line in lines[1:] if (match := _BUFFER.fullmatch(line))]
    values = [match for line in lines[1:] if (match := _VALUE.fullmatch(line))]
    axes = [match for line in lines[1:] if (match := _AXIS.fullmatch(line))]
    body = lines[1 + len(buffers) + len(values) + len(axes):]
    nodes = parse_graph(body, ops.KERNEL_OPS, _parse_arg)
    return Kernel(
        name=lines[0].removeprefix("kernel").strip(),
        buffers=tuple(BufferParam(by_name(m[2]), int(m[3]), cast(Role, m[1]), bool(m[4]), int(m[6] or 0),
                                  int(m[8] or 1), int(m[10] or 0)) for m in buffers),
        values=tuple(by_name(m[1]) for m in values),
        axes=tuple(Axis(int(m[1]), int(m[3]), cast(AxisKind, m[2])) for m in axes),
        stores=tuple(n for n in nodes if n.op is ops.STORE),
    )

"""Program: what a renderer receives. A linear list of instructions with structured blocks.

Every instruction has an id (its position in the list, ELSE and END counted), the register axes it varies
over, and a dtype unless it gives no value. Register axes are TILE and VECTOR axes, listed in `Program.axes`;
an instruction over axes (t of 8, v of 16) stands for 8 registers of 16 lanes, and it is the renderer that
spreads it out. An operand may vary over fewer axes than its user: it is then the same for all positions of
the missing axes (a renderer splats lanes). An instruction varies over at most one VECTOR axis.

Instructions (`src` are ids of earlier instructions, in the same block or one around it):

    CONST   arg: Python value, a bool, an int within the dtype or a float (NaN, infinity and -0.0 occur)
    VALUE   arg: run-time value slot, of dtype `Program.values[arg]`
    TASK    int64 index of the task at hand, 0 <= task < Program.tasks; tasks run in any order, side by side
    LOOP    arg: (start, stop) ints; the body runs for each counter start <= counter < stop, an int64 that is
            the instruction's value within the body; closed by END
    IF      src: condition (bool, no axes); optional ELSE; closed by END
    LANE    arg: register axis; int64 position along it (varies over that axis)
    LOAD    arg: (buffer, strides or None), src: (index[, gate]). With strides ((axis, elements), ...) the
            element for a position p is index + sum(p[axis] * elements) and index has no axes; axes not named
            have stride 0. With None the index itself varies. Where the gate (bool) is false nothing is read
            and the value is 0
    STORE   arg: (buffer, strides or None), src: (index, value[, gate]); nothing is written where the gate is
            false
    ACC     a mutable register, src: (initial value,), set wherever control passes the instruction; naming its
            id as a source reads the present value
    SET     src: (ACC, value): gives the ACC its new value, at every position of the ACC's axes
    HREDUCE arg: (ADD | MUL | MAX | MIN, register axes removed), src: (value,): combines the positions along
            those axes, in an order that the renderer chooses once and for all
    CDIV, CMOD, and every elementwise row of graph/ops.py but IDIV, MOD and POW; EXP, LOG, COS, TANH, RECIP,
            NEG and ABS only where `Capabilities.ops` names them. Each means what its row says. Divisors of
            CDIV and CMOD are not 0 and their quotients do not overflow; counts of SHL and SHR are at least 0
            and below the width

Floats are computed in the dtypes of `Capabilities.arithmetic` only; in others there are constants, values,
loads, stores and casts. Integers and bool are computed in every dtype.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pluggrad.dtypes import DType
from pluggrad.kernel.kernel import BufferParam, Kernel


@dataclass(frozen=True, slots=True)
class Instr:
    """`op src arg -> dtype` over register `axes` (ids, sorted); no dtype for LOOP/IF/ELSE/END/STORE/SET."""

    op: str
    dtype: DType | None
    src: tuple[int, ...] = ()
    arg: Any = None
    axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RegisterAxis:
    """A TILE axis is spread over registers, a VECTOR axis over the lanes of one."""

    id: int
    extent: int
    vector: bool


@dataclass(frozen=True, slots=True)
class Program:
    """`name` is a C identifier, unique to the code; `tasks` is the launch size; `kernel` the origin.

    A target that `interprets_kernels` gets an empty body, and runs `kernel` itself.
    """

    name: str
    buffers: tuple[BufferParam, ...]
    values: tuple[DType, ...]
    tasks: int
    axes: tuple[RegisterAxis, ...]
    body: tuple[Instr, ...]
    kernel: Kernel = field(repr=False)

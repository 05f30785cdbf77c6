"""Program: what a renderer receives. A linear list of instructions with structured blocks.

Every instruction has an id (its position in the list, ELSE and END counted), the register axes it varies
over, and a dtype unless it gives no value. Register axes are TILE and VECTOR axes, listed in `Program.axes`;
an instruction over axes (t of 8, v of 16) stands for 8 registers of 16 lanes, and it is the renderer that
spreads it out. An operand may vary over fewer axes than its user: it is then the same for all positions of
the missing axes (a renderer splats lanes). An instruction varies over at most one VECTOR axis.

Each instruction is a row of `lower/instructions.py`: sources (`src`, ids of earlier instructions in the same
block or in one around it), argument (`arg`) and meaning.

A buffer of role "local" is memory of each task's own, aligned like an allocation and of any content when the
task begins. It is no argument, stands behind those that are, and reaches only devices that declare
`Capabilities.local_bytes`. Where a task has several work items they share it, in the memory that
`Capabilities.scratch_bytes` is the size of: what one of them stores there the others see after a BARRIER.

Floats are computed in the dtypes of `Capabilities.arithmetic` only; in others there are constants, values,
loads, stores and casts. Integers and bool are computed in every dtype.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pluggrad.dtypes import DType
from pluggrad.kernel.boxes import boxes_of
from pluggrad.kernel.kernel import Box, BufferParam, Kernel, local_places


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

    Each task is run by `group` work items, which all execute its instructions and pass every GREDUCE and
    BARRIER together. A target that `interprets_kernels` gets an empty body, and runs `kernel` itself.
    """

    name: str
    buffers: tuple[BufferParam, ...]
    values: tuple[DType, ...]
    tasks: int
    axes: tuple[RegisterAxis, ...]
    body: tuple[Instr, ...]
    kernel: Kernel = field(repr=False)
    group: int = 1

    @property
    def local_places(self) -> tuple[dict[int, int], int]:
        """Where each local buffer may lie in memory of the task, in bytes, and how many it takes."""
        return local_places(self.buffers, {i.arg[0] for i in self.body if i.op == "MMA_STORE"})

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Those of COPY_BOX, by their numbers."""
        return tuple([copy.box for copy in boxes_of(self.kernel).values()])

    @property
    def arguments(self) -> tuple[BufferParam, ...]:
        """The buffers that a launch is given: all but the local ones."""
        return tuple([b for b in self.buffers if b.role != "local"])

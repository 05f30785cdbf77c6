"""Programs written by hand, instruction by instruction."""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from pluggrad import dtypes
from pluggrad.dtypes import DType, Scalar
from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.lower.program import Instr, Program, RegisterAxis

NOTHING = Kernel("", (), (), (), ())
_names = itertools.count()


class ProgramBuilder:
    """Appends instructions; register axes of an instruction are those of its sources unless given."""

    def __init__(self, name: str = "kernel", tasks: int = 1) -> None:
        self.name, self.tasks = f"{name}_{next(_names)}", tasks
        self.buffers: list[BufferParam] = []
        self.values: list[DType] = []
        self.axes: list[RegisterAxis] = []
        self.body: list[Instr] = []

    def buffer(self, dtype: DType, size: int, role: Any = "in") -> int:
        self.buffers.append(BufferParam(dtype, size, role))
        return len(self.buffers) - 1

    def axis(self, extent: int, vector: bool = False) -> int:
        self.axes.append(RegisterAxis(len(self.axes), extent, vector))
        return len(self.axes) - 1

    def value(self, dtype: DType) -> int:
        self.values.append(dtype)
        return self("VALUE", dtype, arg=len(self.values) - 1)

    def __call__(self, op: str, dtype: DType | None, *src: int, arg: Any = None,
                 axes: Sequence[int] | None = None) -> int:
        varies = set(axes) if axes is not None else {a for s in src for a in self.body[s].axes}
        self.body.append(Instr(op, dtype, src, arg, tuple(sorted(varies))))
        return len(self.body) - 1

    def const(self, value: Scalar, dtype: DType = dtypes.int64) -> int:
        return self("CONST", dtype, arg=value)

    def load(self, buffer: int, index: int, strides: Any = (), gate: int | None = None) -> int:
        src = (index,) if gate is None else (index, gate)
        found = {a for s in src for a in self.body[s].axes} | {a for a, _ in strides or ()}
        return self("LOAD", self.buffers[buffer].dtype, *src, arg=(buffer, strides), axes=sorted(found))

    def store(self, buffer: int, index: int, value: int, strides: Any = (), gate: int | None = None) -> int:
        src = (index, value) if gate is None else (index, value, gate)
        found = {a for s in src for a in self.body[s].axes} | {a for a, _ in strides or ()}
        return self("STORE", None, *src, arg=(buffer, strides), axes=sorted(found))

    def build(self) -> Program:
        return Program(self.name, tuple(self.buffers), tuple(self.values), self.tasks, tuple(self.axes),
                       tuple(self.body), NOTHING)

"""Program -> C. A plugin whose language is of the C family subclasses this, and names what differs."""
from __future__ import annotations

from typing import ClassVar

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import CompileError
from pluggrad.lower.program import Program
from pluggrad.render.body import Body
from pluggrad.render.dialect import Dialect
from pluggrad.render.elementwise import RENDERED_OPS
from pluggrad.render.source import Source, shared_name


class CLikeRenderer(Dialect):
    """Renders C11 with libm, scalar: `void NAME(void **args, const void *values, int64_t lo, int64_t hi)`.

    `args` are the buffers in order, `values` 8-byte slots that each start with a run-time value in its own
    dtype (halves as their bits, a bool as a byte). It runs the tasks lo <= task < hi. `preamble` stands
    before it. `ops` is what `Capabilities.ops` may name.

    Example:
        class AcmeRenderer(CLikeRenderer):
            functions = CLikeRenderer.functions | {"EXP": {"float32": "acme_expf", "float64": "exp"}}

        AcmeRenderer(target.capabilities.arithmetic).render(program)
    """

    ops: ClassVar[frozenset[str]] = RENDERED_OPS
    preamble: ClassVar[str] = "#include <math.h>\n#include <stdint.h>\n#include <string.h>"
    task: ClassVar[str] = "task"

    def render(self, program: Program) -> str:
        """The text of a file with this kernel and the functions that it needs."""
        if program.group > 1 and not self.item:
            raise CompileError(f"{program.name} is for {program.group} work items a task, and this language "
                               "has no groups")
        out = Source()
        head = self.open_kernel(program, out)
        self.declare_local(program, out)
        Body(program, self, out, self.task).write()
        self.close_kernel(out)
        shared = [f"    {self.shared} {kind} {shared_name(kind)}[{size}];"
                  for kind, size in out.shared.items()]
        kernel = "\n".join([*head, *shared, *out.lines, "}"])
        return "\n\n".join([self.preamble, *out.pieces.values(), kernel]) + "\n"

    def declare_local(self, program: Program, out: Source) -> None:
        """Local buffers, each as b and its number."""
        for i, buffer in enumerate(program.buffers):
            if buffer.role == "local":
                words = [self.shared] if program.group > 1 else []
                words += [self.aligned] if self.aligned else []
                size = buffer.size * buffer.stages
                out.do(" ".join([*words, self.memory_type(buffer.dtype, out), f"b{i}[{size}];"]))

    def open_kernel(self, program: Program, out: Source) -> list[str]:
        """The lines up to the brace of the function; writes what leads to the body of one task."""
        for i, buffer in enumerate(program.arguments):
            const = "const " if buffer.role == "in" else ""
            out.do(f"{const}{self.memory_type(buffer.dtype, out)} *restrict const b{i} = args[{i}];")
        for i, dtype in enumerate(program.values):
            out.do(f"{self.memory_type(dtype, out)} s{i};")
            out.do(f"memcpy(&s{i}, (const char *)values + {8 * i}, sizeof s{i});")
        counter = self.type(dtypes.int64, 1, out)
        out.open(f"for ({counter} task = lo; task < hi; task++)")
        return [f"void {program.name}(void **args, const void *values, {counter} lo, {counter} hi) {{"]

    def memory_type(self, dtype: DType, out: Source) -> str:
        """What an element is in memory: a bool is a byte, a half that is not computed in its bits."""
        return self.type(dtypes.uint8 if dtype.kind == "b" else self.held(dtype), 1, out)

    def close_kernel(self, out: Source) -> None:
        """End what `open_kernel` opened, save the function."""
        out.close()

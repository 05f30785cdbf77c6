"""OpenCL C 1.2: one work group for each task, lanes as the language's vector types.

`__kernel void NAME(buffers..., values...)`: a buffer is a pointer to its elements. Halves that are not
computed in are there as their bits and bools as bytes, in buffers and as values.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from pluggrad.plugin_api import CLikeRenderer, DType, Program, Source, Target, Value, dtypes

_INTEGERS: Final = {"8": "char", "16": "short", "32": "int", "64": "long"}
_FUNCTIONS: Final = {
    "SQRT": "sqrt", "EXP": "exp", "EXP2": "exp2", "LOG": "log", "LOG2": "log2", "SIN": "sin", "COS": "cos",
    "TANH": "tanh", "ERF": "erf", "FLOOR": "floor", "CEIL": "ceil", "TRUNC": "trunc", "ROUND": "rint",
    "ABS": "fabs",
}
# in the order in which they stand before a kernel whose text has the word
_EXTENSIONS: Final = {"double": "cl_khr_fp64", "half": "cl_khr_fp16"}
# PoCL 3.0 takes small angles for others where another lane is huge
_NEAR_ZERO: Final = {
    "sin": "x * (1.0f - square * (0x1.555556p-3f - square * 0x1.111112p-7f))",
    "cos": "1.0f - square * (0.5f - square * 0x1.555556p-5f)",
}
_SWIZZLE: Final = "0123456789abcdef"


class OpenCLRenderer(CLikeRenderer):
    """Renders for a device that computes in the floats of `arithmetic`."""

    types: ClassVar[Mapping[str, str]] = {
        "bool": "uchar", "float16": "half", "float32": "float", "float64": "double",
        **{f"int{bits}": name for bits, name in _INTEGERS.items()},
        **{f"uint{bits}": f"u{name}" for bits, name in _INTEGERS.items()}}
    functions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        op: {dtype.name: name for dtype in dtypes.FLOATS} for op, name in _FUNCTIONS.items()}
    vector_widths: ClassVar[tuple[int, ...]] = (16, 8, 4, 2)
    lane_conversion: ClassVar[str] = "convert_{to}({x})"
    bit_cast: ClassVar[str] = "as_{to}({x})"
    # products and sums fuse where they are one expression; `fma` is a call on some devices
    preamble: ClassVar[str] = "#pragma OPENCL FP_CONTRACT ON"
    task: ClassVar[str] = "get_group_id(0)"
    item: ClassVar[str] = "item"
    shared: ClassVar[str] = "__local"
    barrier: ClassVar[str] = "barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);"

    def open_kernel(self, program: Program, out: Source) -> list[str]:
        parameters = []
        for i, buffer in enumerate(program.arguments):
            const = "const " if buffer.role == "in" else ""
            parameters.append(f"__global {const}{self.memory_type(buffer.dtype, out)} *restrict b{i}")
        parameters += [f"const {self.memory_type(dtype, out)} s{i}" for i, dtype in enumerate(program.values)]
        if program.group > 1:
            out.do("const long item = get_local_id(0);")
        return [f"__kernel __attribute__((reqd_work_group_size({program.group}, 1, 1)))",
                f"void {program.name}({', '.join(parameters)}) {{"]

    def close_kernel(self, out: Source) -> None:
        return

    def render(self, program: Program) -> str:
        text = super().render(program)
        used = [name for word, name in _EXTENSIONS.items() if word in text]
        return "".join(f"#pragma OPENCL EXTENSION {name} : enable\n" for name in used) + text

    # ------------------------------------------------------------------------------------------------ lanes

    def vector_type(self, dtype: DType, lanes: int, out: Source) -> str:
        return f"{self.types[dtype.name]}{lanes}"

    def call(self, function: str, arguments: Sequence[Value], dtype: DType, out: Source) -> Value:
        lanes, listed = arguments[0].lanes, ", ".join(argument.text for argument in arguments)
        if lanes > 1 and dtype is dtypes.float32 and function in _NEAR_ZERO:
            function = self._near_zero(function, self.vector_type(dtype, lanes, out), out)
        return Value(f"{function}({listed})", dtype, lanes, "call")

    def _near_zero(self, function: str, kind: str, out: Source) -> str:
        name = f"{function}_{kind}"
        out.pieces.setdefault(name, (
            f"{self.function_head} {kind} {name}({kind} x) {{\n"
            f"    const {kind} square = x * x;\n"
            f"    return fabs(x) < 0x1p-6f ? {_NEAR_ZERO[function]} : {function}(x);\n}}"))
        return name

    def splat(self, value: Value, lanes: int, out: Source) -> Value:
        kind = self.vector_type(value.dtype, lanes, out)
        return Value(f"({kind})({value.text})", value.dtype, lanes, "call")

    def join(self, elements: Sequence[str], dtype: DType, out: Source) -> Value:
        kind = self.vector_type(dtype, len(elements), out)
        return Value(f"({kind})({', '.join(elements)})", dtype, len(elements), "call")

    def element(self, value: Value, lane: int) -> str:
        return f"{value}.s{_SWIZZLE[lane]}"

    def load_row(self, pointer: str, dtype: DType, lanes: int, out: Source) -> Value:
        return Value(f"vload{lanes}(0, {pointer})", dtype, lanes, "call")

    def store_row(self, pointer: str, value: Value, out: Source) -> str:
        return f"vstore{value.lanes}({value.text}, 0, {pointer});"


RENDERED_OPS: Final = OpenCLRenderer.ops


def render(program: Program, target: Target) -> str:
    """Source text of one kernel; blocks are separated by empty lines, equal functions are equal blocks."""
    return OpenCLRenderer(target.capabilities.arithmetic).render(program)

"""Metal Shading Language: one threadgroup for each task, lanes as the language's vectors of two and four.

`kernel void NAME(buffers..., values, ids)`: a buffer is a pointer to its elements, and run-time values are
slots of 8 bytes in one constant buffer behind the others. Math is precise. Comparisons of vectors, which give
bools, become masks as wide as what they compare.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from pluggrad.plugin_api import CLikeRenderer, DType, MatrixTile, Program, Source, Target, Value
from pluggrad_metal import matrix_units

_INTEGERS: Final = {"8": "char", "16": "short", "32": "int", "64": "long"}
# `fast` ones are off by much near zero and for large arguments; the rest have one version
_FUNCTIONS: Final = {
    "SQRT": "precise::sqrt", "EXP": "precise::exp", "EXP2": "precise::exp2", "LOG": "precise::log",
    "LOG2": "precise::log2", "SIN": "precise::sin", "COS": "precise::cos", "TANH": "precise::tanh",
    "ERF": "erf", "FLOOR": "floor", "CEIL": "ceil", "TRUNC": "trunc", "ROUND": "rint", "ABS": "fabs",
}
# x + x * p(x * x) below 1, and 1 - exp(-p(x)) from there to 4, where erf rounds to 1; errors below 2**-29
_ERF: Final = (
    0.12837917, -0.37612626, 0.112836, -0.026854444, 0.0051895357, -0.0008020842, 7.889123e-05)
_ERFC: Final = (
    0.0003537194, 1.12704, 0.6382257, 0.103037365, -0.021805318, 0.002939607, -0.00018557398)
_LANES: Final = "xyzw"
_FLOAT4: Final = 16  # bytes


class MetalRenderer(CLikeRenderer):
    """Renders for a GPU that computes in the floats of `arithmetic`."""

    types: ClassVar[Mapping[str, str]] = {
        "bool": "bool", "float16": "half", "bfloat16": "bfloat", "float32": "float",
        **{f"int{bits}": name for bits, name in _INTEGERS.items()},
        **{f"uint{bits}": f"u{name}" for bits, name in _INTEGERS.items()}}
    functions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        op: {"float32": name} for op, name in _FUNCTIONS.items()}
    function_head: ClassVar[str] = "inline"
    vector_widths: ClassVar[tuple[int, ...]] = (4, 2)
    lane_conversion: ClassVar[str] = "{to}({x})"
    bit_cast: ClassVar[str] = "as_type<{to}>({x})"
    preamble: ClassVar[str] = "#include <metal_stdlib>\nusing namespace metal;"
    task: ClassVar[str] = "task"
    item: ClassVar[str] = "item"
    shared: ClassVar[str] = "threadgroup"
    subgroup: ClassVar[int] = 32  # the width of a simdgroup on every GPU of Apple's
    barrier: ClassVar[str] = "threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);"

    def render(self, program: Program) -> str:
        self._spaces = ["device"]  # where the kernel's memory lies, which is a part of pointer types
        if any(buffer.role == "local" for buffer in program.buffers):
            self._spaces.append(self.shared if program.group > 1 else "thread")
        return super().render(program)

    def open_kernel(self, program: Program, out: Source) -> list[str]:
        parameters = []
        for i, buffer in enumerate(program.arguments):
            const = "const " if buffer.role == "in" else ""
            parameters.append(f"device {const}{self.memory_type(buffer.dtype, out)} *b{i} [[buffer({i})]]")
        if program.values:
            parameters.append(f"constant ulong *values [[buffer({len(parameters)})]]")
        parameters.append("uint task_id [[threadgroup_position_in_grid]]")
        out.do("const long task = task_id;")
        if program.group > 1:
            parameters.append("uint item_id [[thread_index_in_threadgroup]]")
            out.do("const long item = item_id;")
        for i, dtype in enumerate(program.values):
            out.do(f"const {self.type(self.held(dtype), 1, out)} s{i} = {self._value(i, dtype)};")
        return [f"[[kernel, max_total_threads_per_threadgroup({program.group})]]",
                f"void {program.name}(", *(f"    {text}," for text in parameters[:-1]),
                f"    {parameters[-1]}) {{"]

    def declare_local(self, program: Program, out: Source) -> None:
        """Arrays; where a matrix unit's sums take the place of its panels, parts of one."""
        if not any(instr.op == "MMA_STORE" for instr in program.body):
            super().declare_local(program, out)
            return
        places, nbytes = program.local_places
        out.do(f"{self.shared} float4 local[{-(-nbytes // _FLOAT4)}];")
        for slot, place in places.items():
            kind = self.memory_type(program.buffers[slot].dtype, out)
            start = f"({self.shared} {kind} *)(local + {place // _FLOAT4})"
            out.do(f"{self.shared} {kind} *const b{slot} = {start};")

    def close_kernel(self, out: Source) -> None:
        return

    def _value(self, slot: int, dtype: DType) -> str:
        """A run-time value out of the low bytes of its slot."""
        held = self.held(dtype)
        if held.is_float:
            bits = {2: "ushort", 4: "uint"}[held.itemsize]
            return f"as_type<{self.types[held.name]}>(({bits})values[{slot}])"
        return f"({self.types[held.name]})values[{slot}]"

    # ------------------------------------------------------------------------------------------------ lanes

    def vector_type(self, dtype: DType, lanes: int, out: Source) -> str:
        return f"{self.types[dtype.name]}{lanes}"

    def compare(self, symbol: str, x: Value, y: Value, out: Source) -> Value:
        found = super().compare(symbol, x, y, out)
        if x.lanes == 1:
            return found
        mask = self.vector_type(found.dtype, x.lanes, out)  # of 0 and 1 from bools
        return Value(f"-{mask}({found.text})", found.dtype, x.lanes, "operation")

    def select(self, condition: Value, yes: Value, no: Value, out: Source) -> Value:
        if condition.lanes == 1:
            return super().select(condition, yes, no, out)
        false = f"{self.vector_type(condition.dtype, condition.lanes, out)}(0)"
        return Value(f"select({no.text}, {yes.text}, {condition} != {false})", yes.dtype, yes.lanes, "call")

    def call(self, function: str, arguments: Sequence[Value], dtype: DType, out: Source) -> Value:
        lanes, listed = arguments[0].lanes, ", ".join(argument.text for argument in arguments)
        if function == _FUNCTIONS["ERF"]:
            function = _define_erf(self.type(dtype, lanes, out), out)
        return Value(f"{function}({listed})", dtype, lanes, "call")

    def splat(self, value: Value, lanes: int, out: Source) -> Value:
        kind = self.vector_type(value.dtype, lanes, out)
        return Value(f"{kind}({value.text})", value.dtype, lanes, "call")

    def join(self, elements: Sequence[str], dtype: DType, out: Source) -> Value:
        kind = self.vector_type(dtype, len(elements), out)
        return Value(f"{kind}({', '.join(elements)})", dtype, len(elements), "call")

    def element(self, value: Value, lane: int) -> str:
        return f"{value}.{_LANES[lane]}"

    def load_row(self, pointer: str, dtype: DType, lanes: int, out: Source) -> Value:
        return self.load_aligned_row(pointer, dtype, lanes, 1, out)

    def store_row(self, pointer: str, value: Value, out: Source) -> str:
        return self.store_aligned_row(pointer, value, 1, out)

    def load_aligned_row(self, pointer: str, dtype: DType, lanes: int, multiple: int, out: Source) -> Value:
        scalar, kind = self.types[dtype.name], self.vector_type(dtype, lanes, out)
        name = f"{_row('load', lanes, multiple)}_{kind}"
        for space in self._spaces:
            self._define(out, f"{kind} {name}({space} const {scalar} *row)",
                         f"return {kind}(*({space} const {_in_memory(kind, space, lanes, multiple)} *)row);")
        return Value(f"{name}({pointer})", dtype, lanes, "call")

    def store_aligned_row(self, pointer: str, value: Value, multiple: int, out: Source) -> str:
        scalar, kind = self.types[value.dtype.name], self.vector_type(value.dtype, value.lanes, out)
        name = f"{_row('store', value.lanes, multiple)}_{kind}"
        for space in self._spaces:
            stored = _in_memory(kind, space, value.lanes, multiple)
            self._define(out, f"void {name}({space} {scalar} *row, {kind} x)",
                         f"*({space} {stored} *)row = {stored}(x);")
        return f"{name}({pointer}, {value.text});"

    # ----------------------------------------------------------------------------------------- matrix units

    def matrix_sums(self, name: str, tile: MatrixTile, program: Program, out: Source) -> str:
        return matrix_units.cleared(name, matrix_units.layout(tile, program.group), out)

    def matrix_multiply(self, name: str, tile: MatrixTile, left: str, right: str, program: Program,
                        out: Source) -> str:
        place = matrix_units.layout(tile, program.group)
        return matrix_units.multiplied(name, tile, (left, right), place, out)

    def matrix_store(self, name: str, tile: MatrixTile, to: str, stride: int, program: Program,
                     out: Source) -> str:
        return matrix_units.stored(name, to, stride, matrix_units.layout(tile, program.group), out)

    # ---------------------------------------------------------------------------------- functions, simdgroups

    def _define(self, out: Source, head: str, statement: str) -> None:
        """A function for pointers to one kind of memory; others of its name are for other kinds."""
        out.pieces.setdefault(head, f"{self.function_head} {head} {{\n    {statement}\n}}")

    def exchange(self, value: Value, distance: int, group: int, out: Source) -> Value:
        dtype = value.dtype
        if dtype.itemsize == 8 and value.lanes > 1:
            lanes = [Value(self.element(value, lane), dtype) for lane in range(value.lanes)]
            return self.join([self.exchange(x, distance, group, out).text for x in lanes], dtype, out)
        sent, received = value.text, "{}"
        if dtype.itemsize == 8:  # no shuffle takes 64 bits
            sent, received = f"as_type<uint2>({sent})", f"as_type<{self.types[dtype.name]}>({{}})"
        elif dtype.kind == "b":
            sent, received = f"(uchar){value}", "(bool){}"
        call = f"simd_shuffle_xor({sent}, {distance})"
        return Value(received.format(call), dtype, value.lanes, "call")


def _row(action: str, lanes: int, multiple: int) -> str:
    return f"{action}_aligned" if multiple >= lanes else action


def _in_memory(kind: str, space: str, lanes: int, multiple: int) -> str:
    """A vector, or a packed one, which is aligned as its elements are. Buffers are aligned for any vector."""
    return kind if multiple >= lanes and space == "device" else f"packed_{kind}"


def _define_erf(kind: str, out: Source) -> str:
    """The name of the error function of a type, written where the kernel has none of that name yet."""
    name = f"erf_{kind}"
    out.pieces.setdefault(name, "\n".join((
        f"inline {kind} {name}({kind} x) {{",
        f"    const {kind} size = fabs(x);",
        f"    const {kind} square = x * x;",
        f"    const {kind} limited = select(size, {kind}(4.0f), size > {kind}(4.0f));",
        *_polynomial(kind, "near", "square", _ERF),
        *_polynomial(kind, "far", "limited", _ERFC),
        "    near = fma(size, near, size);",
        f"    far = {kind}(1.0f) - precise::exp(-far);",
        f"    return copysign(select(far, near, size < {kind}(1.0f)), x);",
        "}")))
    return name


def _polynomial(kind: str, name: str, x: str, coefficients: Sequence[float]) -> Iterator[str]:
    """Statements of Horner's rule; the coefficients are those of the lowest power first."""
    yield f"    {kind} {name} = {kind}({coefficients[-1]!r}f);"
    for coefficient in coefficients[-2::-1]:
        yield f"    {name} = fma({name}, {x}, {kind}({coefficient!r}f));"


RENDERED_OPS: Final = MetalRenderer.ops


def render(program: Program, target: Target) -> str:
    """Source text of one kernel; blocks are separated by empty lines, equal functions are equal blocks."""
    return MetalRenderer(target.capabilities.arithmetic).render(program)

"""Program -> CUDA C++: a block of threads for each task, its work items the threads."""
from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Final

from pluggrad.plugin_api import CLikeRenderer, DType, MatrixTile, Program, Source, Value
from pluggrad_cuda import matrix_units, prelude
from pluggrad_cuda.architecture import MAX_BLOCKS

_INTEGERS: Final = {"8": "char", "16": "short", "32": "int", "64": "long long"}
_ROW_BYTES: Final = 16  # the widest access of a thread
_WARP: Final = 32
DECLARED_BYTES: Final = 40 << 10  # of local buffers: kernels may declare 48 KiB, some of it for reductions
# functions of the piece `halves`, and the compute capability from which on the hardware has them
_CONVERSIONS: Final = {"float16_to_float32": 53, "float32_to_float16": 53, "float64_to_float16": 53,
                       "float32_to_bfloat16": 80}


class CudaRenderer(CLikeRenderer):
    """Renders for a device that computes in the floats of `arithmetic`.

    capability: compute capability, times ten. Buffers have to begin at multiples of 16 bytes.
    """

    types: ClassVar[Mapping[str, str]] = {
        "bool": "unsigned char", "float32": "float", "float64": "double",
        **{f"int{bits}": f"signed {name}" if bits == "8" else name for bits, name in _INTEGERS.items()},
        **{f"uint{bits}": f"unsigned {name}" for bits, name in _INTEGERS.items()}}
    function_head: ClassVar[str] = prelude.HEAD
    vector_widths: ClassVar[tuple[int, ...]] = (16, 8, 4, 2)
    preamble: ClassVar[str] = prelude.PREAMBLE
    item: ClassVar[str] = "item"
    shared: ClassVar[str] = "__shared__"
    aligned: ClassVar[str] = f"__align__({_ROW_BYTES})"
    barrier: ClassVar[str] = "__syncthreads();"
    copied_bytes: ClassVar[tuple[int, ...]] = (4, 8, 16)
    rolled: ClassVar[str] = "#pragma unroll 1"
    subgroup: ClassVar[int] = _WARP

    def __init__(self, arithmetic: Collection[str], capability: int) -> None:
        super().__init__(arithmetic)
        self.capability = capability

    # ----------------------------------------------------------------------------------------------- kernel

    def open_kernel(self, program: Program, out: Source) -> list[str]:
        parameters = []
        for i, buffer in enumerate(program.arguments):
            const = "const " if buffer.role == "in" else ""
            parameters.append(f"{const}{self.memory_type(buffer.dtype, out)} *__restrict__ b{i}")
        parameters += [f"const __grid_constant__ TensorMap m{i}" for i in range(len(program.boxes))]
        parameters += [f"const {self.memory_type(dtype, out)} s{i}" for i, dtype in enumerate(program.values)]
        if program.group > 1:
            out.do(f"__builtin_assume(threadIdx.x < {program.group});")
            out.do("const long long item = threadIdx.x;")
        if program.tasks > MAX_BLOCKS:
            out.do("const long long task = (long long)blockIdx.y * gridDim.x + blockIdx.x;")
            out.do(f"if (task >= {program.tasks}) return;")
        else:  # what is known to be small is divided in 32 bits
            out.do(f"__builtin_assume(blockIdx.x < {program.tasks});")
            out.do("const long long task = blockIdx.x;")
        return [f'extern "C" __global__ __launch_bounds__({program.group})',
                f"void {program.name}({', '.join(parameters)}) {{"]

    def close_kernel(self, out: Source) -> None:
        return

    def declare_local(self, program: Program, out: Source) -> None:
        """In the text where it fits, else in memory that the launch brings."""
        declared = sum(buffer.nbytes for buffer in program.buffers if buffer.role == "local")
        if declared <= DECLARED_BYTES and not program.boxes:
            super().declare_local(program, out)
            return
        places, _ = program.local_places
        prelude.use("boxes" if program.boxes else "local_memory", out)
        memory = "aligned_memory" if program.boxes else "local_memory"
        for slot, place in places.items():
            kind = self.memory_type(program.buffers[slot].dtype, out)
            out.do(f"{kind} *const b{slot} = ({kind} *)({memory}() + {place});")

    # ------------------------------------------------------------------------------------------------ casts

    def own_cast(self, value: Value, source: DType, target: DType, out: Source) -> Value | None:
        """By the hardware, where one instruction does it; bfloat16 is widened by a shift."""
        name = f"{source.name}_to_{target.name}"
        if self.capability < _CONVERSIONS.get(name, math.inf):
            return None
        prelude.use("halves", out)
        return self.call(name, [value], self.held(target), out)

    def reinterpret(self, value: Value, dtype: DType, out: Source) -> Value:
        if value.lanes == 1 and value.dtype.is_int and dtype.is_int:
            return self.convert(value, dtype, out)
        if value.lanes == 1 and value.is_literal:  # which may be of another size
            value = super().convert(value, value.dtype, out)
        prelude.use("bits" if value.lanes == 1 else "lanes_bits", out)
        function = "bits_as" if value.lanes == 1 else "lanes_as"
        return Value(f"{function}<{self.types[dtype.name]}>({value.text})", dtype, value.lanes, "call")

    # ------------------------------------------------------------------------------------------------ lanes

    def vector_type(self, dtype: DType, lanes: int, out: Source) -> str:
        prelude.use("lanes", out)
        name = f"{dtype.name}x{lanes}"
        out.pieces.setdefault(name, f"using {name} = lanes<{self.types[dtype.name]}, {lanes}>;")
        return name

    def convert(self, value: Value, dtype: DType, out: Source) -> Value:
        if value.lanes == 1:
            return super().convert(value, dtype, out)
        return Value(f"convert<{self.types[dtype.name]}>({value.text})", dtype, value.lanes, "call")

    def select(self, condition: Value, yes: Value, no: Value, out: Source) -> Value:
        if condition.lanes == 1:
            return super().select(condition, yes, no, out)
        return Value(f"blend({condition.text}, {yes.text}, {no.text})", yes.dtype, yes.lanes, "call")

    def call(self, function: str, arguments: Sequence[Value], dtype: DType, out: Source) -> Value:
        lanes = arguments[0].lanes
        if lanes == 1:
            return super().call(function, arguments, dtype, out)
        kinds = [self.vector_type(argument.dtype, lanes, out) for argument in arguments]
        result, name = self.vector_type(dtype, lanes, out), f"{function}_{kinds[0]}"
        takes = ", ".join(f"{kind} x{i}" for i, kind in enumerate(kinds))
        each = ", ".join(f"x{i}.at[i]" for i in range(len(kinds)))
        out.pieces.setdefault(name, (
            f"{self.function_head} {result} {name}({takes}) {{\n"
            f"    {result} z;\n"
            f"    for (int i = 0; i < {lanes}; i++) z.at[i] = {function}({each});\n"
            f"    return z;\n}}"))
        return Value(f"{name}({', '.join(argument.text for argument in arguments)})", dtype, lanes, "call")

    def splat(self, value: Value, lanes: int, out: Source) -> Value:
        self.vector_type(value.dtype, lanes, out)
        kind = self.types[value.dtype.name]
        return Value(f"splat<{kind}, {lanes}>({value.text})", value.dtype, lanes, "call")

    def join(self, elements: Sequence[str], dtype: DType, out: Source) -> Value:
        kind = self.vector_type(dtype, len(elements), out)
        return Value(f"join<{kind}>({', '.join(elements)})", dtype, len(elements), "call")

    def element(self, value: Value, lane: int) -> str:
        return f"{value}.at[{lane}]"

    # --------------------------------------------------------------------------------------- memory, groups

    def load_row(self, pointer: str, dtype: DType, lanes: int, out: Source) -> Value:
        return self.load_aligned_row(pointer, dtype, lanes, 1, out)

    def store_row(self, pointer: str, value: Value, out: Source) -> str:
        return self.store_aligned_row(pointer, value, 1, out)

    def load_aligned_row(self, pointer: str, dtype: DType, lanes: int, multiple: int, out: Source) -> Value:
        self.vector_type(dtype, lanes, out)
        prelude.use("rows", out)
        function = f"load_row<{lanes}, {_aligned(dtype, lanes, multiple)}>"
        return Value(f"{function}({pointer})", dtype, lanes, "call")

    def store_aligned_row(self, pointer: str, value: Value, multiple: int, out: Source) -> str:
        prelude.use("rows", out)
        return f"store_row<{_aligned(value.dtype, value.lanes, multiple)}>({pointer}, {value.text});"

    def copy_ahead(self, to: str, source: str, nbytes: int, gate: str, out: Source) -> str:
        prelude.use("copies", out)
        return f"copy_ahead<{nbytes}>({to}, {source}, {gate});"

    def commit(self, out: Source) -> str:
        prelude.use("copies", out)
        return "commit_copies();"

    def wait(self, newer: int, out: Source) -> str:
        prelude.use("copies", out)
        return f"wait_for_copies<{newer}>();"

    def arrivals(self, stages: int, copies: int, out: Source) -> str:
        out.do(f"__shared__ unsigned long long arrivals[{stages}];")
        return f"open_arrivals<{copies}>(arrivals);"

    def copy_box(self, to: str, number: int, starts: Sequence[str], step: str, stages: int, program: Program,
                 out: Source) -> str:
        box = program.boxes[number]
        nbytes = box.size * program.buffers[box.source].dtype.itemsize // box.spans
        shape = f"{box.spans}, {box.span}, {nbytes}"
        return f"copy_box<{shape}>({to}, m{number}, arrivals, {', '.join([step, *starts])});"

    def wait_box(self, step: str, stages: int, out: Source) -> str:
        return f"wait_for_boxes(arrivals, {step});"

    # ----------------------------------------------------------------------------------------- matrix units

    def matrix_sums(self, name: str, tile: MatrixTile, program: Program, out: Source) -> str:
        place = matrix_units.layout(tile, program, self.capability)
        return f"float {name}[{place.rows}][{place.columns}][4] = {{}};"

    def matrix_multiply(self, name: str, tile: MatrixTile, left: str, right: str, program: Program,
                        out: Source) -> str:
        place = matrix_units.layout(tile, program, self.capability)
        prelude.use("by_groups" if place.by_groups else "by_warps", out)
        unit = matrix_units.unit(tile, place, program, out)
        panels = [f"{matrix_units.panel_type(panel, program, out)}{{(const char *)({at})}}"
                  for panel, at in ((tile.left, left), (tile.right, right))]
        operands = ", ".join(panels)
        if not place.by_groups:
            return f"multiply_by_warps<{unit}, {tile.steps}, {place.down}>({name}, {operands});"
        if program.buffers[tile.left.buffer].dtype.name == "float32":
            prelude.use("round_panels", out)
            shape = f"{program.group}, {tile.rows}, {tile.columns}, {tile.steps}"
            out.do(f"round_panels<{shape}>({operands});")
        shape = f"{tile.steps}, {place.down}, {tile.in_flight}"
        return f"multiply_by_groups<{unit}, {shape}>({name}, {operands});"

    def matrix_store(self, name: str, tile: MatrixTile, to: str, stride: int, program: Program,
                     out: Source) -> str:
        prelude.use("store_sums", out)
        place = matrix_units.layout(tile, program, self.capability)
        if place.by_groups:
            out.do(f"finish_by_groups({name});")
        return f"store_sums<{place.down}, {stride}>({name}, {to});"

    # ------------------------------------------------------------------------------------------- subgroups

    def exchange(self, value: Value, distance: int, group: int, out: Source) -> Value:
        one = value.lanes == 1
        prelude.use("exchange" if one else "lanes_exchange", out)
        function = "exchange" if one else "exchange_lanes"
        mask = (1 << min(group, _WARP)) - 1
        return Value(f"{function}<{mask:#x}>({value.text}, {distance})", value.dtype, value.lanes, "call")


def _aligned(dtype: DType, lanes: int, multiple: int) -> int:
    """Elements that one access of a row moves."""
    return min(lanes, multiple, _ROW_BYTES // dtype.itemsize)


"""C with the vector types of GCC and Clang."""
from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pluggrad.dtypes import DType
from pluggrad.render.dialect import signed
from pluggrad.render.renderer import CLikeRenderer
from pluggrad.render.source import Source, Value


class CVectorRenderer(CLikeRenderer):
    """As `CLikeRenderer`, with `__attribute__((vector_size))` for lanes: `float32x16` is 16 floats.

    For targets whose `Capabilities.vector_bytes` is not 0; compilers split what is wider than a register.
    """

    vector_widths: ClassVar[tuple[int, ...]] = (16, 8, 4, 2)
    lane_conversion: ClassVar[str] = "__builtin_convertvector({x}, {to})"
    # how vectors are passed depends on the processor, and GCC says so: nothing of ours is ever called
    preamble: ClassVar[str] = f'{CLikeRenderer.preamble}\n#pragma GCC diagnostic ignored "-Wpsabi"'
    function_head: ClassVar[str] = "static inline __attribute__((always_inline))"

    def vector_type(self, dtype: DType, lanes: int, out: Source) -> str:
        name = f"{dtype.name}x{lanes}"
        size = lanes * dtype.itemsize
        out.pieces.setdefault(
            name, f"typedef {self.types[dtype.name]} {name} __attribute__((vector_size({size})));")
        return name

    def reinterpret(self, value: Value, dtype: DType, out: Source) -> Value:
        if value.lanes == 1:
            return super().reinterpret(value, dtype, out)
        kind = self.vector_type(dtype, value.lanes, out)
        return Value(f"({kind}){value}", dtype, value.lanes, "call")

    def select(self, condition: Value, yes: Value, no: Value, out: Source) -> Value:
        if condition.lanes == 1:
            return super().select(condition, yes, no, out)
        kind = self.vector_type(yes.dtype, yes.lanes, out)
        mask = self.vector_type(signed(yes.dtype), yes.lanes, out)
        name = self._function(
            out, f"select_{kind}", f"{kind} %s({mask} mask, {kind} yes, {kind} no)",
            f"return ({kind})((mask & ({mask})yes) | (~mask & ({mask})no));")
        return Value(f"{name}({condition.text}, {yes.text}, {no.text})", yes.dtype, yes.lanes, "call")

    def call(self, function: str, arguments: Sequence[Value], dtype: DType, out: Source) -> Value:
        lanes = arguments[0].lanes
        if lanes == 1:
            return super().call(function, arguments, dtype, out)
        kinds = [self.vector_type(argument.dtype, lanes, out) for argument in arguments]
        result = self.vector_type(dtype, lanes, out)
        takes = ", ".join(f"{kind} x{i}" for i, kind in enumerate(kinds))
        one = ", ".join(f"x{i}[lane]" for i in range(len(kinds)))
        name = self._function(
            out, f"{function}_{kinds[0]}", f"{result} %s({takes})",
            f"{result} y;", f"for (int lane = 0; lane < {lanes}; lane++) y[lane] = {function}({one});",
            "return y;")
        return Value(f"{name}({', '.join(argument.text for argument in arguments)})", dtype, lanes, "call")

    def splat(self, value: Value, lanes: int, out: Source) -> Value:
        kind = self.vector_type(value.dtype, lanes, out)
        name = self._function(out, f"splat_{kind}", f"{kind} %s({self.types[value.dtype.name]} x)",
                              f"return ({kind}){{{', '.join('x' * lanes)}}};")
        return Value(f"{name}({value.text})", value.dtype, lanes, "call")

    def join(self, elements: Sequence[str], dtype: DType, out: Source) -> Value:
        kind = self.vector_type(dtype, len(elements), out)
        return Value(f"({kind}){{{', '.join(elements)}}}", dtype, len(elements), "call")

    def element(self, value: Value, lane: int) -> str:
        return f"{value}[{lane}]"

    def load_row(self, pointer: str, dtype: DType, lanes: int, out: Source) -> Value:
        kind = self.vector_type(dtype, lanes, out)
        name = self._function(out, f"load_{kind}", f"{kind} %s(const {self.types[dtype.name]} *row)",
                              f"{kind} x;", "memcpy(&x, row, sizeof x);", "return x;")
        return Value(f"{name}({pointer})", dtype, lanes, "call")

    def store_row(self, pointer: str, value: Value, out: Source) -> str:
        kind = self.vector_type(value.dtype, value.lanes, out)
        name = self._function(out, f"store_{kind}", f"void %s({self.types[value.dtype.name]} *row, {kind} x)",
                              "memcpy(row, &x, sizeof x);")
        return f"{name}({pointer}, {value.text});"

    def _function(self, out: Source, name: str, head: str, *statements: str) -> str:
        """The name of a function, which is written where the kernel has none of that name yet."""
        lines = [f"{self.function_head} {head % name} {{", *(f"    {line}" for line in statements), "}"]
        out.pieces.setdefault(name, "\n".join(lines))
        return name

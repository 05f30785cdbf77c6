"""Typed expressions on scalars and lanes: the vocabulary in which ops and conversions are written."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from pluggrad import dtypes
from pluggrad.dtypes import DType, Scalar
from pluggrad.render.dialect import Dialect, signed, unsigned
from pluggrad.render.source import Source, Value

Operand = Value | int | float


class Arithmetic:
    """Operations on values of equal lanes; Python numbers are constants of the other operand's dtype."""

    def __init__(self, dialect: Dialect, out: Source) -> None:
        self.dialect, self.out = dialect, out

    # ---------------------------------------------------------------------------------------------- operands

    def constant(self, number: Scalar, dtype: DType, lanes: int) -> Value:
        """A number in every lane."""
        return self.spread(Value(self.dialect.literal(number, dtype), self.dialect.held(dtype)), lanes)

    def spread(self, value: Value, lanes: int) -> Value:
        """A scalar in every lane; a bool becomes a mask."""
        if value.lanes == lanes:
            return value
        if value.dtype.kind == "b":
            value = Value(f"-{value}", dtypes.int8, form="operation")
        return self.dialect.splat(value, lanes, self.out)

    def let(self, value: Value) -> Value:
        """The value under a name, so that it can be used more than once."""
        if value.form == "name":
            return value
        name = self.out.name()
        self.out.do(f"const {self.dialect.type(value.dtype, value.lanes, self.out)} {name} = {value.text};")
        return value.named(name)

    def _operand(self, x: Operand, like: Value) -> Value:
        return x if isinstance(x, Value) else self.constant(x, like.dtype, like.lanes)

    # -------------------------------------------------------------------------------------------- operations

    def infix(self, symbol: str, a: Value, b: Operand) -> Value:
        """`a symbol b` as the language has it, in the dtype of `a`."""
        return Value(f"{a} {symbol} {self._operand(b, a)}", a.dtype, a.lanes, form="operation")

    def prefix(self, symbol: str, a: Value) -> Value:
        return Value(f"{symbol}{a}", a.dtype, a.lanes, form="operation")

    def compare(self, symbol: str, a: Value, b: Operand) -> Value:
        """A bool; of lanes a mask as wide as they are."""
        return self.dialect.compare(symbol, a, self._operand(b, a), self.out)

    def wrapping(self, symbol: str, a: Value, b: Operand) -> Value:
        """An integer operation modulo the width: C lets unsigned numbers wrap, and no others."""
        b = self._operand(b, a)
        narrow = a.lanes == 1 and a.dtype.itemsize < 4
        if a.dtype.kind == "u" and not narrow:
            return self.infix(symbol, a, b)
        # a scalar below 32 bits is computed in int, where a product may overflow
        wide = dtypes.uint32 if narrow else unsigned(a.dtype)
        change = self.convert if narrow else self.reinterpret
        return change(self.infix(symbol, change(a, wide), change(b, wide)), a.dtype)

    def convert(self, value: Value, dtype: DType) -> Value:
        """C's conversion of numbers."""
        return value if value.dtype is dtype else self.dialect.convert(value, dtype, self.out)

    def reinterpret(self, value: Value, dtype: DType) -> Value:
        """The same bits as another dtype of the same size."""
        return value if value.dtype is dtype else self.dialect.reinterpret(value, dtype, self.out)

    def select(self, condition: Value, yes: Operand, no: Operand) -> Value:
        """`yes` where the condition (a bool or a mask) holds, else `no`."""
        like = yes if isinstance(yes, Value) else no
        assert isinstance(like, Value)
        if condition.lanes > 1:
            condition = self.convert(condition, signed(like.dtype))
        return self.dialect.select(condition, self._operand(yes, like), self._operand(no, like), self.out)

    def call(self, function: str, arguments: Sequence[Value], dtype: DType) -> Value:
        """A function of scalars, for each lane."""
        return self.dialect.call(function, arguments, dtype, self.out)

    def defined(self, name: str, argument: Value, result: DType,
                body: Callable[[Arithmetic, Value], Value]) -> Value:
        """A call of a function of ours, which is written where the kernel has none of that name yet."""
        dialect, lanes = self.dialect, argument.lanes
        name = f"{name}_x{lanes}" if lanes > 1 else name
        if name not in self.out.pieces:
            inner = Arithmetic(dialect, Source(self.out.pieces))
            value = body(inner, Value("x", argument.dtype, lanes))
            takes, gives = (dialect.type(d, lanes, self.out) for d in (argument.dtype, result))
            inner.out.do(f"return {value.text};")
            head = f"{dialect.function_head} {gives} {name}({takes} x) {{"
            self.out.pieces[name] = "\n".join([head, *inner.out.lines, "}"])
        return Value(f"{name}({argument.text})", result, lanes, "call")

"""What a capture remembers of the arguments and results that are no tensors."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pluggrad.errors import JitError
from pluggrad.tensor.variable import BoundVariable


def frozen(where: str, bound: list[BoundVariable]) -> Callable[[Any], tuple[Any, ...]]:
    """Describes a hashable Python value by what tells it from others; JitError, which calls it an `where`,
    for one that is not. Variables go to `bound`, and are described without their values."""

    def described(value: Any) -> tuple[Any, ...]:
        if isinstance(value, BoundVariable):
            bound.append(value)
            return (value.unbound(),)
        try:
            hash(value)
        except TypeError as error:
            raise JitError(op="jit", got=type(value).__name__, hint="Make arrays tensors: Tensor(array)",
                           expected=f"an {where} of tensors, hashable values and lists, tuples or dicts of "
                                    "them") from error
        sign = math.copysign(1.0, value) if isinstance(value, float) else 0.0  # 0.0 and -0.0 compare equal
        return value, type(value), sign

    return described


def give(bound: list[BoundVariable]) -> None:
    """Let replays read the values of one call; JitError if a variable has two."""
    values: dict[Any, int | None] = {}
    for each in bound:
        if values.setdefault(each.variable, each.bound) != each.bound:
            raise JitError(op="jit", expected=f"one value of the variable {each.variable.name} in a call",
                           got=f"{values[each.variable]} and {each.bound}",
                           hint="Bind another variable, or pass the difference as a number")
        each.give()

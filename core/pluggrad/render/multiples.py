"""What indices are multiples of: by that a row in memory may be aligned to more than its elements are."""
from __future__ import annotations

import math
from typing import Final

from pluggrad.lower.program import Program

_MOST: Final = 1 << 12  # no access is aligned to more
_SHARED_FACTOR: Final = frozenset({"ADD", "SUB", "CMOD", "MIN", "MAX"})


def integer_multiples(program: Program) -> list[int]:
    """For each instruction the largest power of two that is known to divide its value; 1 where that is no
    integer. Results that wrap keep it: they wrap at a power of two."""
    known: list[int] = []
    for instr in program.body:
        factors = [known[s] for s in instr.src]
        found = 1
        if instr.op == "CONST" and isinstance(instr.arg, int):
            found = _power(instr.arg)
        elif instr.op == "MUL":
            found = min(math.prod(factors), _MOST)
        elif instr.op in _SHARED_FACTOR:
            found = min(factors)
        elif instr.op == "WHERE":
            found = min(factors[1:])
        elif instr.op == "CAST" and instr.dtype is not None and instr.dtype.is_int:
            found = factors[0]
        elif (instr.op == "TASK" and program.tasks == 1) or (instr.op == "ITEM" and program.group == 1):
            found = _MOST
        known.append(found)
    return known


def common_multiple(index: int, offset: int) -> int:
    """The largest power of two that divides `index + offset`, where it divides the index by `index`."""
    return min(index, _power(offset))


def _power(number: int) -> int:
    """The largest power of two that divides a number, at most `_MOST`, which divides 0."""
    return min(number & -number, _MOST) if number else _MOST

"""Bounds of the integers of a Program: what cannot overflow is written as plain arithmetic."""
from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Final

from pluggrad import dtypes
from pluggrad.lower.program import Program

Range = tuple[int, int]  # lowest and highest value, both reached at most

_EXACT: Final[dict[str, Callable[[int, int], int]]] = {
    "ADD": operator.add, "SUB": operator.sub, "MUL": operator.mul}


def integer_ranges(program: Program) -> list[Range | None]:
    """For each instruction that gives an integer the range of its exact result, which is beyond its dtype's
    where it may wrap; None where that is not known, or no integer."""
    extents = {axis.id: axis.extent for axis in program.axes}
    known: list[Range | None] = []
    for instr in program.body:
        dtype = dtypes.int64 if instr.op == "LOOP" else instr.dtype
        if dtype is None or not dtype.is_int:
            known.append(None)
            continue
        sources = [_wrapped(known[s], program.body[s].dtype or dtypes.int64) for s in instr.src]
        found: Range | None = None
        if instr.op == "CONST":
            found = (instr.arg, instr.arg)
        elif instr.op == "TASK":
            found = (0, program.tasks - 1)
        elif instr.op == "ITEM":
            found = (0, program.group - 1)
        elif instr.op == "LOOP":
            found = (instr.arg[0], max(instr.arg) - 1)
        elif instr.op == "LANE":
            found = (0, extents[instr.arg] - 1)
        elif instr.op in _EXACT:
            found = _exact(_EXACT[instr.op], *sources)
        elif instr.op in ("CDIV", "CMOD"):
            found = _divided(instr.op, *sources)
        elif instr.op == "CAST":
            found = sources[0]
        known.append(found)
    return known


def overflows(exact: Range | None, dtype: dtypes.DType) -> bool:
    """Whether a result of these bounds may have to wrap."""
    return exact is None or exact[0] < dtype.min or exact[1] > dtype.max


def _wrapped(exact: Range | None, dtype: dtypes.DType) -> Range | None:
    """Where the value lies that an instruction of this dtype leaves."""
    if not dtype.is_int:
        return None
    return (int(dtype.min), int(dtype.max)) if overflows(exact, dtype) else exact


def _exact(op: Callable[[int, int], int], x: Range | None, y: Range | None) -> Range | None:
    if x is None or y is None:
        return None
    corners = list(itertools.starmap(op, itertools.product(x, y)))
    return min(corners), max(corners)


def _divided(op: str, x: Range | None, y: Range | None) -> Range | None:
    """Of a dividend and a divisor that are not negative."""
    if x is None or y is None or x[0] < 0 or y[0] < 1:
        return None
    return (x[0] // y[1], x[1] // y[0]) if op == "CDIV" else (0, min(x[1], y[1] - 1))

"""Kernel -> Program: the ordered list of lowering passes."""
from __future__ import annotations

from dataclasses import replace
from typing import Final

from pluggrad.config import VERIFY
from pluggrad.ir.passes import Pass, PassList, Trace
from pluggrad.kernel.boxes import boxes_of
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.order import store_order
from pluggrad.kernel.text import digest
from pluggrad.lower.addresses import split_addresses
from pluggrad.lower.arithmetic import Stores, decompose, safe_integers, widen
from pluggrad.lower.linearize import linearize
from pluggrad.lower.program import Program, RegisterAxis
from pluggrad.lower.simplify import simplify
from pluggrad.lower.verify import verify_lowered
from pluggrad.target import Capabilities, Target

__all__ = ["PASSES", "lower", "program_name"]

PASSES: Final[PassList[Stores, Capabilities]] = PassList((
    Pass("safe_integers", "first: what it makes may need widening and decomposing", safe_integers),
    Pass("widen", "before decompose, whose constants are then in the dtype that is computed in", widen),
    Pass("decompose", "after widen: only dtypes that the target computes in are left", decompose),
    Pass("simplify", "last: the passes before leave casts and constants to fold", simplify),
))


def program_name(kernel: Kernel) -> str:
    """A C identifier that is unique to the code."""
    return f"k{digest(kernel)[:24]}"


def lower(kernel: Kernel, target: Target, trace: Trace | None = None) -> Program:
    """Run the passes on a tuned kernel, take the registers out of its addresses, and put it in order.

    With a trace, or under the setting VERIFY, each pass is recorded or checked.
    """
    if trace is None and VERIFY.value:
        trace = Trace(verify=verify_lowered)
    if target.capabilities.interprets_kernels:
        return Program(program_name(kernel), kernel.buffers, kernel.values, 1, _registers(kernel), (), kernel)
    lowered = replace(kernel, stores=PASSES.run(kernel.stores, target.capabilities, trace))
    if trace is None:
        return _program(kernel, lowered)
    return trace.step("linearize", lambda: _program(kernel, lowered))


def _program(kernel: Kernel, lowered: Kernel) -> Program:
    name, registers = program_name(kernel), _registers(kernel)
    split = replace(lowered, stores=split_addresses(lowered))
    body = linearize(split, store_order(lowered), boxes_of(lowered))
    return Program(name, kernel.buffers, kernel.values, kernel.tasks, registers, body, kernel, kernel.group)


def _registers(kernel: Kernel) -> tuple[RegisterAxis, ...]:
    kept = [axis for axis in kernel.axes if axis.kind in ("TILE", "VECTOR")]
    return tuple([RegisterAxis(axis.id, axis.extent, axis.kind == "VECTOR") for axis in kept])

"""Kernel -> Program: the ordered list of lowering passes."""
from __future__ import annotations

import math
from dataclasses import replace

from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.text import digest
from pluggrad.lower.addresses import split_addresses
from pluggrad.lower.arithmetic import decompose, safe_integers, widen
from pluggrad.lower.linearize import linearize
from pluggrad.lower.program import Program, RegisterAxis
from pluggrad.lower.simplify import simplify
from pluggrad.target import Target

__all__ = ["PASSES", "lower", "program_name"]

# name, function (stores, capabilities) -> stores, and why it stands where it stands
PASSES = (
    ("safe_integers", safe_integers, "first: what it makes may need widening and decomposing like anything else"),
    ("widen", widen, "before decompose, whose constants are then in the dtype that is computed in"),
    ("decompose", decompose, "after widen: only dtypes that the target computes in are left"),
    ("simplify", simplify, "last: the passes before leave casts and constants to fold"),
)


def program_name(kernel: Kernel) -> str:
    """A C identifier that is unique to the code."""
    return f"k{digest(kernel)[:24]}"


def lower(kernel: Kernel, target: Target, passes: tuple[tuple[object, ...], ...] = PASSES) -> Program:
    """Run the passes on a tuned kernel, take the registers out of its addresses, and put it in order."""
    name = program_name(kernel)
    registers = tuple([RegisterAxis(a.id, a.extent, a.kind == "VECTOR") for a in kernel.axes if a.kind in ("TILE", "VECTOR")])
    tasks = math.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL"])
    if target.capabilities.interprets_kernels:
        return Program(name, kernel.buffers, kernel.values, 1, registers, (), kernel)
    lowered = kernel
    for _, function, _ in PASSES:
        lowered = replace(lowered, stores=function(lowered.stores, target.capabilities))
    lowered = replace(lowered, stores=split_addresses(lowered))
    return Program(name, kernel.buffers, kernel.values, tasks, registers, linearize(lowered), kernel)

"""Schedules of running reductions: a step waits for the one before it, so others are taken side by side."""
from __future__ import annotations

from typing import Final

from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import best_vector_axis, even_tile, fit_lanes, vector_lanes
from pluggrad.tune.actions import split

# that a task runs along together: about as many as an addition takes cycles. More, as long as a power of two,
# would meet in one set of the first-level cache, read and written
_ROWS: Final = 4
_REGISTERS: Final = 4  # of a vector across rows: as long a run of memory at each step


def is_scan(kernel: Kernel) -> bool:
    """Whether a kernel stores running reductions."""
    return any(n.op is ops.SCAN for n in toposort(kernel.stores))


def tune_scan(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Vectors across memory where it runs beside the rows, else a few rows in registers."""
    across = best_vector_axis(kernel, ("PARALLEL",), weighted=True)
    if across is not None:
        lanes = fit_lanes(vector_lanes(kernel, capabilities, _REGISTERS), across.extent)
        return split(kernel, across.id, lanes, "PARALLEL", "VECTOR")[0] if lanes > 1 else kernel
    rows = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1]
    if not rows:
        return kernel
    return split(kernel, rows[-1].id, even_tile(rows[-1].extent, _ROWS), "PARALLEL", "TILE")[0]

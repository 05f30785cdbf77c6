"""Which schedule a kernel gets, from its accesses and the target's Capabilities. No timing, no device name.

Six shapes of kernel are told apart by their innermost work: elementwise loops, rows (reductions along
memory), windows (small reductions, many side by side), contractions (reductions whose operands are shared
between outputs; apart from those that memory sets the time of), running reductions, and writes at places that
data decide.
"""
from __future__ import annotations

from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.actions import merge_adjacent
from pluggrad.tune.blockwise import nests_reductions, one_by_one
from pluggrad.tune.contraction import Scheduled, is_contraction, tune_contraction
from pluggrad.tune.depthwise import tune_depthwise
from pluggrad.tune.elementwise import tune_elementwise
from pluggrad.tune.groups import contract_in_groups, multiply_in_groups, tune_in_groups
from pluggrad.tune.matvec import sweep_rows, tune_along_rows
from pluggrad.tune.online import tune_online
from pluggrad.tune.rows import split_long_reduction, tune_rows
from pluggrad.tune.scans import is_scan, tune_scan
from pluggrad.tune.scatter import ordered_axes, tune_scatter
from pluggrad.tune.streaming import stream_outputs
from pluggrad.tune.weighted import tune_weighted
from pluggrad.tune.windows import share_windows, tune_windows, window_axis


def tune_kernel(kernel: Kernel, capabilities: Capabilities) -> tuple[Kernel, ...]:
    """The kernel with its axes split and bound for this target. Several where operands are packed first, or a
    reduction has two phases."""
    kernel = merge_adjacent(kernel)
    if capabilities.interprets_kernels:
        return (kernel,)
    blockwise = tune_online(kernel, capabilities) or tune_weighted(kernel, capabilities)
    if blockwise is not None:
        return (blockwise,)
    if len(kernel.stores) > 1 and nests_reductions(kernel):
        return tuple([tuned for part in one_by_one(kernel) for tuned in tune_kernel(part, capabilities)])
    swept = sweep_rows(kernel, capabilities) or multiply_in_groups(kernel, capabilities)
    if swept is not None:
        return tuple(_in_order(swept, capabilities))
    phases = split_long_reduction(kernel, capabilities)
    tuned = [each for phase in phases for each in _tune_one(phase, capabilities)]
    return tuple([stream_outputs(each, capabilities) for each in tuned])


def _contract(kernel: Kernel, capabilities: Capabilities) -> list[Kernel]:
    planes = tune_depthwise(kernel, capabilities)
    if planes is not None:
        return [planes]
    along = tune_along_rows(kernel, capabilities)
    contract = contract_in_groups if capabilities.max_group > 1 else tune_contraction
    return _in_order(along or contract(kernel, capabilities), capabilities)


def _in_order(scheduled: Scheduled, capabilities: Capabilities) -> list[Kernel]:
    """A contraction with what runs before and after it, scheduled too."""
    first, last = [[tuned for k in each for tuned in _tune_one(merge_adjacent(k), capabilities)]
                   for each in (scheduled.before, scheduled.after)]
    return [*first, scheduled.contraction, *last]


def _tune_one(kernel: Kernel, capabilities: Capabilities) -> list[Kernel]:
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    if is_contraction(kernel, reductions):
        return _contract(kernel, capabilities)
    if capabilities.max_group > 1:
        return tune_in_groups(kernel, capabilities)
    if is_scan(kernel):
        return [tune_scan(kernel, capabilities)]
    if ordered_axes(kernel):
        return [tune_scatter(kernel, capabilities)]
    if not reductions:
        return [tune_elementwise(kernel, capabilities)]
    windows = share_windows(kernel)
    across = window_axis(windows, capabilities)
    if across is not None:
        return [tune_windows(windows, across, capabilities)]
    return [tune_rows(kernel, capabilities)]

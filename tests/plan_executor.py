"""Runs a Plan in host memory, in any order that its barriers allow."""
from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.plan import BufferRef, Plan, PlannedCopy

RunKernel = Callable[[Kernel, list[np.ndarray], list[object]], None]


def run_plan(plan: Plan, inputs: Sequence[np.ndarray], values: Sequence[object], *, seed: int = 0,
             run_kernel: RunKernel = interpret) -> list[np.ndarray]:
    """The bytes of each root. Inputs are 1-D arrays of bytes; those that the plan takes over are changed."""
    outputs = [np.full(o.nbytes, 0xA5, np.uint8) if o.reuses is None else inputs[o.reuses]
               for o in plan.outputs]
    arena = np.full(plan.arena_bytes, 0xA5, np.uint8)
    status = np.zeros(8 * len(plan.checks), np.uint8)

    def place(ref: BufferRef) -> np.ndarray:
        return {"input": inputs, "output": outputs, "arena": [arena],
                "status": [status]}[ref.place][ref.number][ref.offset:]

    for phase in phases(plan, random.Random(seed)):
        for command in phase:
            if isinstance(command, PlannedCopy):
                place(command.target)[:command.nbytes] = place(command.source)[:command.nbytes]
                continue
            kernel = plan.kernels[command.kernel]
            buffers = [place(ref)[:param.size * param.dtype.itemsize].view(param.dtype.numpy)
                       for ref, param in zip(command.args, kernel.buffers, strict=True)]
            assert all(b.size == p.size for b, p in zip(buffers, kernel.buffers, strict=True))
            run_kernel(kernel, buffers, [values[slot] for slot in command.values])
    return [place(root) for root in plan.roots]


def phases(plan: Plan, order: random.Random) -> list[list[object]]:
    """Commands between barriers, shuffled: they may run side by side. A copy waits and is waited for."""
    found: list[list[object]] = [[]]
    for command in plan.commands:
        if isinstance(command, PlannedCopy):
            found += [[command], []]
        elif command.barrier:
            found.append([command])
        else:
            found[-1].append(command)
    for phase in found:
        order.shuffle(phase)
    return found

"""Kernel -> one or more Kernels, scheduled for a target."""
from __future__ import annotations

from dataclasses import dataclass, replace

from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.kernel.offer import Claim, Extern
from pluggrad.target import Capabilities
from pluggrad.tune.actions import prune_buffers
from pluggrad.tune.claimed import claimed_parts
from pluggrad.tune.heuristics import tune_kernel

__all__ = ["Phase", "Tuned", "tune"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One kernel to launch; `args` number the original kernel's buffers, and after those the temporaries.

    extern: the code that its backend brings for it; the kernel is not scheduled then.
    """

    kernel: Kernel
    args: tuple[int, ...]
    extern: Extern | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """Phases in order, and the temporaries that they hand on."""

    phases: tuple[Phase, ...]
    temporaries: tuple[BufferParam, ...]


def tune(kernel: Kernel, capabilities: Capabilities, claim: Claim | None = None) -> Tuned:
    """Apply the heuristics for a target to what `claim` leaves (None: nobody takes anything over)."""
    parts = claimed_parts(kernel, claim) if claim is not None else [(kernel, None)]
    kernels = [(k, extern) for part, extern in parts
               for k in ((part,) if extern is not None else tune_kernel(part, capabilities))]
    phases = [Phase(*prune_buffers(k), extern) for k, extern in kernels]
    handed_on = {arg: param for phase in phases for arg, param in zip(phase.args, phase.kernel.arguments)
                 if arg >= len(kernel.buffers)}
    temporaries = sorted(handed_on)
    number = {arg: i for i, arg in enumerate(temporaries, len(kernel.buffers))}
    return Tuned(tuple([replace(phase, args=tuple([number.get(arg, arg) for arg in phase.args]))
                        for phase in phases]), tuple([handed_on[arg] for arg in temporaries]))

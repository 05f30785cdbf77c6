"""Kernel -> one or more Kernels, scheduled for a target."""
from __future__ import annotations

from dataclasses import dataclass

from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.actions import prune_buffers
from pluggrad.tune.heuristics import tune_kernel

__all__ = ["Phase", "Tuned", "tune"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One kernel to launch; `args` number the original kernel's buffers, and after those the temporaries."""

    kernel: Kernel
    args: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tuned:
    """Phases in order, and the temporaries that they hand on."""

    phases: tuple[Phase, ...]
    temporaries: tuple[BufferParam, ...]


def tune(kernel: Kernel, capabilities: Capabilities) -> Tuned:
    """Apply the heuristics for a target."""
    kernels = tune_kernel(kernel, capabilities)
    temporaries = max([k.buffers for k in kernels], key=len)[len(kernel.buffers):]
    return Tuned(tuple([Phase(*prune_buffers(k)) for k in kernels]), temporaries)

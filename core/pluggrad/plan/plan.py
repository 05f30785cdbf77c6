"""Plan: kernels in order, what each reads and writes, and where temporaries lie. Plain data: it is stored on disk."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pluggrad.kernel.kernel import Kernel


class BufferRef(NamedTuple):
    """An argument: input `number`, output `number`, or the arena (`number` 0) from byte `offset`."""

    place: Literal["input", "output", "arena"]
    number: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class PlannedLaunch:
    """Launch kernel `kernel` (a number) with these buffers and the plan's run-time values at these positions."""

    kernel: int
    args: tuple[BufferRef, ...]
    values: tuple[int, ...]
    work_us: float
    barrier: bool


@dataclass(frozen=True, slots=True)
class PlannedCopy:
    """Copy bytes within the device."""

    target: BufferRef
    source: BufferRef
    nbytes: int


PlannedCommand = PlannedLaunch | PlannedCopy


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """An output of `nbytes`; `reuses` is the input whose memory it takes over in place, or None for new memory."""

    nbytes: int
    reuses: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`roots[i]` says where the value of root i is: an output, or an input that it is unchanged."""

    kernels: tuple[Kernel, ...]
    commands: tuple[PlannedCommand, ...]
    outputs: tuple[PlannedOutput, ...]
    roots: tuple[BufferRef, ...]
    arena_bytes: int

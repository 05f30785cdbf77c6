"""Plan: kernels in order, what each reads and writes, where temporaries lie. Plain data, stored on disk."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from pluggrad.kernel.kernel import IndexCheck, Kernel

if TYPE_CHECKING:
    from pluggrad.kernel.cost import Cost
    from pluggrad.kernel.offer import Extern


class BufferRef(NamedTuple):
    """An argument: input `number`, output `number`, or the arena or the status words (`number` 0) from byte
    `offset`."""

    place: Literal["input", "output", "arena", "status"]
    number: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class PlannedLaunch:
    """Launch kernel number `kernel` on these buffers with the run-time values at these positions."""

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
    """An output of `nbytes`, in new memory or in that of input `reuses`, which it takes over."""

    nbytes: int
    reuses: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`roots[i]` says where the value of root i is: an output, or an input that it is unchanged.

    checks: what each status word, an int64, is about. externs: code that the backend brings, by the number of
    the kernel that it stands for. costs: of one run of each kernel, its operations as the graph has them:
    what tiles compute beyond that is no achievement.
    """

    kernels: tuple[Kernel, ...]
    commands: tuple[PlannedCommand, ...]
    outputs: tuple[PlannedOutput, ...]
    roots: tuple[BufferRef, ...]
    arena_bytes: int
    checks: tuple[IndexCheck, ...] = ()
    externs: Mapping[int, Extern] = field(default_factory=dict)
    costs: tuple[Cost, ...] = ()

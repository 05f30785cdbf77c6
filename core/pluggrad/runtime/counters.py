"""Counts of what the runtime did, for tests and for the curious: `GlobalCounters`."""
from __future__ import annotations

from typing import Final


class Counters:
    """Process-wide counts since the last `reset()`.

    realizations: command lists run. kernels: kernels launched by them. scheduled: plans made anew (graph to
    kernels). plan_hits, plan_disk_hits: plans found in memory, on disk. compiled: kernels compiled.
    kernel_disk_hits: binaries found on disk. uploads: tensors copied in from the host or another device.
    """

    __slots__ = ("realizations", "kernels", "scheduled", "plan_hits", "plan_disk_hits", "compiled",
                 "kernel_disk_hits", "uploads")
    realizations: int
    kernels: int
    scheduled: int
    plan_hits: int
    plan_disk_hits: int
    compiled: int
    kernel_disk_hits: int
    uploads: int

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set every count to 0."""
        for name in self.__slots__:
            setattr(self, name, 0)

    def snapshot(self) -> dict[str, int]:
        """Every count by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def restore(self, counts: dict[str, int]) -> None:
        """Set the counts to those of an earlier `snapshot`."""
        for name, count in counts.items():
            setattr(self, name, count)


GlobalCounters: Final = Counters()  # attributes of a class would cost three times as much to count up

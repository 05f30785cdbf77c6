"""Counts of what the runtime did, for tests and for the curious: `GlobalCounters`."""
from __future__ import annotations


class GlobalCounters:
    """Process-wide counts since the last `reset()`.

    realizations: command lists run. kernels: kernels launched by them. scheduled: plans made anew (graph to
    kernels). plan_hits, plan_disk_hits: plans found in memory, on disk. compiled: kernels compiled.
    kernel_disk_hits: binaries found on disk. uploads: tensors copied in from the host or another device.
    """

    realizations = 0
    kernels = 0
    scheduled = 0
    plan_hits = 0
    plan_disk_hits = 0
    compiled = 0
    kernel_disk_hits = 0
    uploads = 0
    _NAMES = ("realizations", "kernels", "scheduled", "plan_hits", "plan_disk_hits", "compiled",
              "kernel_disk_hits", "uploads")

    @classmethod
    def reset(cls) -> None:
        """Set every count to 0."""
        for name in cls._NAMES:
            setattr(cls, name, 0)

    @classmethod
    def snapshot(cls) -> dict[str, int]:
        """Every count by name."""
        return {name: getattr(cls, name) for name in cls._NAMES}

    @classmethod
    def restore(cls, counts: dict[str, int]) -> None:
        """Set the counts to those of an earlier `snapshot`."""
        for name, count in counts.items():
            setattr(cls, name, count)

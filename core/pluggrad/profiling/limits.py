"""What a device reaches at most, and what share of it a kernel reached."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pluggrad.device.hookspecs import KernelInfo
from pluggrad.target import DeviceId


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one device, as its own kernels measured them: float32 operations and bytes of memory, a second."""

    operations: float
    bytes: float

    def share(self, kernel: KernelInfo, seconds: float) -> tuple[float, str]:
        """How much of the limit that is closer a run reached, and which: "compute" or "memory".

        More than 1 of memory where caches held the data.
        """
        if seconds <= 0:
            return 0.0, "compute"
        compute, memory = kernel.flops / seconds / self.operations, kernel.bytes / seconds / self.bytes
        return (compute, "compute") if compute >= memory else (memory, "memory")

    def text(self, kernel: KernelInfo, seconds: float) -> str:
        """The share as tables and logs show it, such as "83% compute"."""
        share, name = self.share(kernel, seconds)
        return f"{share:.0%} {name}"


Measure = Callable[[], Limits | None]
_measures: dict[DeviceId, Measure] = {}


def measured_by(device: DeviceId, measure: Measure) -> None:
    """Let `measure` find a device's limits: who may run kernels on it says so."""
    _measures[device] = measure


def limits_of(device: DeviceId) -> Limits | None:
    """A device's limits, measured where they are not known yet; None where nobody can say."""
    measure = _measures.get(device)
    return None if measure is None else measure()

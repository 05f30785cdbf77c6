"""A profile as text: a line for each kernel, by the time that it took in all."""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pluggrad.device.hookspecs import CopyFinished, KernelCompiled, KernelFinished, KernelInfo
from pluggrad.profiling.limits import Limits
from pluggrad.target import DeviceId

_COLUMNS: Final = ("device", "kernel", "calls", "total ms", "share", "each us", "GFLOP/s", "GB/s", "of limit")
_LEFT: Final = 2  # columns of text; the others are numbers


@dataclass(frozen=True, slots=True)
class KernelTotal:
    """All runs of one kernel on one device."""

    device: DeviceId
    kernel: KernelInfo
    calls: int
    seconds: float

    @property
    def gflops(self) -> float:
        """Arithmetic operations a nanosecond."""
        return rate(self.kernel.flops * self.calls, self.seconds)

    @property
    def gbytes(self) -> float:
        """Bytes moved a nanosecond."""
        return rate(self.kernel.bytes * self.calls, self.seconds)


def rate(amount: float, seconds: float) -> float:
    """Billions a second; 0 for what took no time that could be measured."""
    return amount / seconds / 1e9 if seconds > 0 else 0.0


def totals(finished: Sequence[KernelFinished]) -> list[KernelTotal]:
    """Runs summed up by device and kernel, those that took longest first."""
    runs: defaultdict[tuple[DeviceId, KernelInfo], list[float]] = defaultdict(list)
    for event in finished:
        runs[event.device, event.kernel].append(event.seconds)
    rows = [KernelTotal(device, kernel, len(seconds), sum(seconds))
            for (device, kernel), seconds in runs.items()]
    return sorted(rows, key=lambda row: row.seconds, reverse=True)


def table_text(kernels: Sequence[KernelTotal], copied: Sequence[CopyFinished],
               compiled: Sequence[KernelCompiled], seconds: float, limits: Mapping[DeviceId, Limits]) -> str:
    """The table, and below it what else took time. limits: of the devices that have any."""
    in_kernels = sum(row.seconds for row in kernels)
    rows = [_COLUMNS, *[_row(row, in_kernels, limits.get(row.device)) for row in kernels]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = ["  ".join([cell.ljust(width) if i < _LEFT else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths, strict=True))]).rstrip()
             for row in rows]
    calls = sum(row.calls for row in kernels)
    lines.append(f"kernels: {calls} runs of {len(kernels)}, {in_kernels * 1e3:.1f} ms of {seconds * 1e3:.1f}")
    if copied:
        lines.append(f"copies: {_copies(copied)}")
    if compiled:
        spent = sum(event.seconds for event in compiled)
        lines.append(f"compiled: {len(compiled)} kernels in {spent * 1e3:.1f} ms")
    return "\n".join(lines)


def _row(row: KernelTotal, in_kernels: float, limits: Limits | None) -> tuple[str, ...]:
    share = row.seconds / in_kernels if in_kernels else 0.0
    return (str(row.device), row.kernel.title, str(row.calls), f"{row.seconds * 1e3:.2f}", f"{share:.0%}",
            f"{row.seconds / row.calls * 1e6:.1f}", f"{row.gflops:.2f}", f"{row.gbytes:.2f}",
            "" if limits is None else limits.text(row.kernel, row.seconds / row.calls))


def _copies(copied: Sequence[CopyFinished]) -> str:
    calls, moved, spent = Counter[str](), Counter[str](), Counter[str]()
    for event in copied:
        calls[event.kind] += 1
        moved[event.kind] += event.nbytes
        spent[event.kind] += round(event.seconds * 1e9)
    return ", ".join(f"{calls[kind]} {kind} of {moved[kind]:,} bytes in {spent[kind] / 1e6:.1f} ms"
                     for kind in calls)

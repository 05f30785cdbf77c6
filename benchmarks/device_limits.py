"""What a device can do at the moment: the best that the libraries which run there measure."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from benchmarks.limits import LARGEST_MOVE, Limits

# what PyTorch calls a type of device; on any other the peers stay on the processor
TORCH_DEVICES: Final = {"cuda": "cuda", "metal": "mps"}
TORCH_DEVICE_VARIABLE: Final = "BENCH_TORCH_DEVICE"


def torch_variables(device: str | None) -> dict[str, str]:
    """The environment in which PyTorch runs where pluggrad's device is."""
    kind, _, index = (device or "").partition(":")
    if kind not in TORCH_DEVICES:
        return {}
    return {TORCH_DEVICE_VARIABLE: f"{TORCH_DEVICES[kind]}:{index}" if index else TORCH_DEVICES[kind]}


class Asked(Protocol):
    """A library's process."""

    def ask(self, do: str, **request: Any) -> dict[str, Any]: ...


class DeviceProbe:
    """Asks the processes that are there: beside a peer's figures ours do not set their own limit."""

    def __init__(self, children: Callable[[], Sequence[Asked]]) -> None:
        self._children = children

    def measure(self) -> Limits:
        """GFLOP/s of float32 and GB/s, the highest that anybody reached."""
        found = [answer for child in self._children() if (answer := child.ask("limits"))]
        if not found:
            raise SystemExit("no library could measure the limits of the device")
        return Limits(max(each["fma"] for each in found), max(each["stream"] for each in found), 1.0)

    def quiet(self, before: Limits, after: Limits) -> bool:
        """Whether no limit moved much in between."""
        return before.moved(after) <= LARGEST_MOVE

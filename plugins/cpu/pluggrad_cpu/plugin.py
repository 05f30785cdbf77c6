"""The plugin door: what the core finds when it looks for the device `cpu`. Imports no LLVM and no NumPy."""
from __future__ import annotations

import importlib.util
import platform
import sys
from contextlib import suppress

from pluggrad.plugin_api import (
    Backend,
    Device,
    DeviceUnavailable,
    PluginApi,
    Probe,
    Target,
    Toolchain,
    UnknownDevice,
    hookimpl,
)


class CpuBackend(Backend):
    """This machine's processor: one device, whose kernels LLVM compiles in process."""

    tier = 10

    def probe(self) -> Probe:
        """One device, if llvmlite is installed."""
        if importlib.util.find_spec("llvmlite") is None:
            return Probe(0, reason="llvmlite is not installed", fix="pip install llvmlite")
        return Probe(1, (_hardware(),))

    def target(self, index: int, variant: str) -> Target:
        from pluggrad_cpu.target import host_target

        self._check(index, variant)
        return host_target()

    def targets(self) -> dict[str, Target]:
        """This machine's caches and cores with the vectors of each instruction set."""
        from pluggrad_cpu.target import named_targets

        return named_targets()

    def toolchain(self, target: Target) -> Toolchain:
        from pluggrad_cpu.compiler import LLVMToolchain

        return LLVMToolchain(target)

    def open(self, index: int, variant: str) -> Device:
        from pluggrad_cpu.device import CpuDevice

        return CpuDevice(self.target(index, variant))

    def describe(self) -> str:
        """llvmlite's and LLVM's versions, the CPU and its threads."""
        from pluggrad_cpu.llvm import version

        target = self.target(0, "")
        return f"{version()}, {target.arch.split('|')[1]}, {target.capabilities.cores} threads"

    def _check(self, index: int, variant: str) -> None:
        found = self.probe()
        if not found.count:
            raise DeviceUnavailable(f"device 'cpu' is unavailable: {found.reason}     try: {found.fix}")
        if index:
            raise UnknownDevice(f"cpu:{index} does not exist: there is one cpu device, which uses every core")
        if variant:
            raise UnknownDevice(f"cpu@{variant} does not exist: the cpu device has no variants")


def _hardware() -> str:
    """The processor's name."""
    if sys.platform != "linux":
        return platform.processor() or platform.machine()
    # Python would start `uname` here, which takes 14 ms and knows the architecture at most
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


@hookimpl
def pluggrad_backend(api: PluginApi) -> Backend:
    """The backend; cheap to make."""
    return CpuBackend()

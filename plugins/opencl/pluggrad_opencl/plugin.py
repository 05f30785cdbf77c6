"""The plugin door: what the core finds when it looks for the device `opencl`. Imports no driver, no NumPy."""
from __future__ import annotations

from typing import Final

from pluggrad.plugin_api import (
    Backend,
    Device,
    DeviceError,
    PluginApi,
    Probe,
    Target,
    Toolchain,
    UnknownDevice,
    hookimpl,
)

_CPU_TIER: Final = 5  # where OpenCL has nothing but the processor: the cpu device uses it better


class OpenCLBackend(Backend):
    """The devices of every OpenCL platform of this machine, GPUs and accelerators before CPUs."""

    def probe(self) -> Probe:
        """Every device; where there is none, or pyopencl cannot be imported, why."""
        try:
            from pluggrad_opencl import driver
        except ImportError as error:  # pyopencl itself, or a library that it needs
            return Probe(0, reason=f"pyopencl cannot be imported: {error}",
                         fix="pip install --force-reinstall pyopencl")
        try:
            found = driver.devices()
        except DeviceError as error:
            return Probe(0, reason=str(error.args[0]), fix=error.hint)
        except Exception as error:  # whatever a driver does when it is asked
            return Probe(0, reason=f"the OpenCL driver failed: {error}", fix="reinstall the driver")
        tier = _CPU_TIER if all(map(driver.is_cpu, found)) else None
        return Probe(len(found), tuple(driver.label(device) for device in found), tier=tier)

    def target(self, index: int, variant: str) -> Target:
        from pluggrad_opencl import driver
        from pluggrad_opencl.target import target_of

        self._check(variant)
        return target_of(driver.device(index))

    def toolchain(self, target: Target) -> Toolchain:
        from pluggrad_opencl.compiler import OpenCLToolchain

        return OpenCLToolchain(target)

    def open(self, index: int, variant: str) -> Device:
        from pluggrad_opencl import driver
        from pluggrad_opencl.device import OpenCLDevice

        return OpenCLDevice(driver.device(index), self.target(index, variant))

    def describe(self) -> str:
        """pyopencl's version, and each platform's."""
        import pyopencl as cl

        from pluggrad_opencl import driver

        platforms = dict.fromkeys(device.platform for device in driver.devices())
        versions = [" ".join(platform.version.split()) for platform in platforms]
        return ", ".join([f"pyopencl {cl.VERSION_TEXT}", *versions])

    def _check(self, variant: str) -> None:
        if variant:
            raise UnknownDevice(f"opencl@{variant} does not exist: the opencl device has no variants")


@hookimpl
def pluggrad_backend(api: PluginApi) -> Backend:
    """The backend; cheap to make."""
    return OpenCLBackend()

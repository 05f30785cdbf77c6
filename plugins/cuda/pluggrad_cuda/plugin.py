"""The plugin door: what the core finds when it looks for the device `cuda`. Imports no driver, no NumPy."""
from __future__ import annotations

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


class CudaBackend(Backend):
    """The NVIDIA GPUs of this machine."""

    tier = 30

    def probe(self) -> Probe:
        """Every GPU that the driver shows; where there is none, or nothing to compile with, why."""
        from pluggrad_cuda import driver, nvrtc

        try:
            found = driver.gpus()
        except DeviceError as error:
            return Probe(0, reason=f"expected {error.expected}, got {error.got}", fix=error.hint)
        except Exception as error:  # whatever a driver does when it is asked
            return Probe(0, reason=f"NVIDIA's driver failed: {error}", fix="reinstall the driver")
        if next(nvrtc.candidates(), None) is None:
            return Probe(0, reason="no NVRTC, which compiles kernels", fix=nvrtc.FIX)
        return Probe(len(found), tuple(gpu.name for gpu in found))

    def target(self, index: int, variant: str) -> Target:
        from pluggrad_cuda import driver, libcuda
        from pluggrad_cuda.target import Properties, target_of

        self._check(variant)
        gpu = driver.gpu(index)
        major, minor = gpu.capability
        return target_of(Properties.asked(gpu.name, 10 * major + minor, gpu.attribute,
                                          maps=libcuda.makes_maps()))

    def targets(self) -> dict[str, Target]:
        """A GPU of each generation of matrix units."""
        from pluggrad_cuda.target import KNOWN, target_of

        return {name: target_of(gpu) for name, gpu in KNOWN.items()}

    def toolchain(self, target: Target) -> Toolchain:
        from pluggrad_cuda.compiler import CudaToolchain

        return CudaToolchain(target)

    def open(self, index: int, variant: str) -> Device:
        from pluggrad_cuda import driver
        from pluggrad_cuda.device import CudaDevice

        return CudaDevice(driver.gpu(index), self.target(index, variant))

    def describe(self) -> str:
        """The driver's version, pycuda's and the compiler's."""
        from importlib.metadata import version

        from pluggrad_cuda import driver, nvrtc

        return (f"driver for CUDA {driver.driver_version()}, pycuda {version('pycuda')}, "
                f"NVRTC {nvrtc.library()}")

    def _check(self, variant: str) -> None:
        if variant:
            raise UnknownDevice(f"cuda@{variant} does not exist: the cuda device has no variants")


@hookimpl
def pluggrad_backend(api: PluginApi) -> Backend:
    """The backend; cheap to make."""
    return CudaBackend()

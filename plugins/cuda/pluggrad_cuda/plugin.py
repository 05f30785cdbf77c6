"""The plugin door: what the core finds when it looks for the device `cuda`. Imports no driver, no NumPy."""
from __future__ import annotations

from pluggrad.plugin_api import (
    Backend,
    Device,
    DeviceUnavailable,
    PluginApi,
    Probe,
    Target,
    Toolchain,
    hookimpl,
)

_REASON = "the plugin has no runtime yet"
_FIX = "use another device"


class CudaBackend(Backend):
    """The NVIDIA GPUs of this machine."""

    def probe(self) -> Probe:
        """No device yet."""
        return Probe(0, reason=_REASON, fix=_FIX)

    def target(self, index: int, variant: str) -> Target:
        raise DeviceUnavailable(op="cuda", expected="a device", got=_REASON, hint=_FIX)

    def toolchain(self, target: Target) -> Toolchain:
        from pluggrad_cuda.compiler import CudaToolchain

        return CudaToolchain(target)

    def open(self, index: int, variant: str) -> Device:
        raise DeviceUnavailable(op="cuda", expected="a device", got=_REASON, hint=_FIX)


@hookimpl
def pluggrad_backend(api: PluginApi) -> Backend:
    """The backend; cheap to make."""
    return CudaBackend()

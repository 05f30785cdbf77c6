"""The plugin door: what the core finds when it looks for the device `metal`. Imports no driver, no NumPy."""
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

_REASON = "needs macOS"
_FIX = "use another device"


class MetalBackend(Backend):
    """The Apple GPUs of this machine."""

    def probe(self) -> Probe:
        """No device yet."""
        return Probe(0, reason=_REASON, fix=_FIX)

    def target(self, index: int, variant: str) -> Target:
        raise DeviceUnavailable(op="metal", expected="a device", got=_REASON, hint=_FIX)

    def toolchain(self, target: Target) -> Toolchain:
        raise DeviceUnavailable(op="metal", expected="a device", got=_REASON, hint=_FIX)

    def open(self, index: int, variant: str) -> Device:
        raise DeviceUnavailable(op="metal", expected="a device", got=_REASON, hint=_FIX)


@hookimpl
def pluggrad_backend(api: PluginApi) -> Backend:
    """The backend; cheap to make."""
    return MetalBackend()

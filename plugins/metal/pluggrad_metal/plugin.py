"""The plugin door: what the core finds when it looks for the device `metal`. Imports no driver, no NumPy."""
from __future__ import annotations

import platform
from importlib import metadata, resources
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

_BINDING: Final = "pyobjc-framework-Metal"
_UNTRIED: Final = "no run on Apple hardware is recorded yet"
_REPORT: Final = "conformance.json"  # of such a run


class MetalBackend(Backend):
    """The Apple GPUs of this machine, the system's default device first."""

    tier = 30
    api_minor = 4

    def probe(self) -> Probe:
        """Every device; where there is none, or pyobjc cannot be imported, why."""
        try:
            from pluggrad_metal import driver
        except ImportError as error:  # pyobjc, which exists on macOS only
            if platform.system() != "Darwin":
                return Probe(0, reason="needs macOS", fix="use another device on this machine")
            return Probe(0, reason=f"pyobjc's Metal binding cannot be imported: {error}",
                         fix=f"pip install '{_BINDING}>=10'")
        try:
            found = driver.devices()
        except DeviceError as error:
            return Probe(0, reason=str(error.args[0]), fix=error.hint)
        except Exception as error:  # whatever the binding does when it is asked
            return Probe(0, reason=f"the Metal driver failed: {error}", fix="update macOS")
        return Probe(len(found), tuple(str(device.name()) for device in found))

    def target(self, index: int, variant: str) -> Target:
        from pluggrad_metal import driver
        from pluggrad_metal.target import target_of

        if variant:
            raise UnknownDevice(f"metal@{variant} does not exist: the metal device has no variants")
        return target_of(driver.describe(driver.device(index)))

    def targets(self) -> dict[str, Target]:
        """A GPU without bfloat16 and one with it."""
        from pluggrad_metal.target import KNOWN, target_of

        return {name: target_of(gpu) for name, gpu in KNOWN.items()}

    def toolchain(self, target: Target) -> Toolchain:
        from pluggrad_metal.compiler import MetalToolchain

        return MetalToolchain(target)

    def open(self, index: int, variant: str) -> Device:
        from pluggrad_metal import driver
        from pluggrad_metal.device import MetalDevice

        return MetalDevice(driver.device(index), self.target(index, variant))

    def describe(self) -> str:
        """pyobjc's version and the system's; and, until a report of a run is shipped, that there is none."""
        parts = []
        if platform.system() == "Darwin":
            parts = [f"pyobjc {metadata.version(_BINDING)}", f"macOS {platform.mac_ver()[0]}"]
        if not resources.files(__package__).joinpath(_REPORT).is_file():
            parts.append(_UNTRIED)
        return ", ".join(parts)


@hookimpl
def pluggrad_backend(api: PluginApi) -> Backend:
    """The backend; cheap to make."""
    return MetalBackend()

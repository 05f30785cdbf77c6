"""What a plugin may implement. A plugin module decorates functions of these names with `hookimpl`.

Hooks are for the rare moments: finding devices, choosing one, opening one. None lies on the launch path; the
two kernel events are fired only while somebody listens.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import pluggy

from pluggrad.device.contract import Backend, Device, Toolchain
from pluggrad.target import DeviceId, Target

PROJECT: Final = "pluggrad"
API_MAJOR: Final = 1
API_MINOR: Final = 0

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)

ToolchainFactory = Callable[[Target], Toolchain]


@dataclass(frozen=True, slots=True)
class PluginApi:
    """What the core tells a plugin: the API version, and the entry-point name under which it was found."""

    device_type: str
    major: int = API_MAJOR
    minor: int = API_MINOR


@dataclass(frozen=True, slots=True)
class KernelCompiled:
    """A kernel was rendered and compiled (not: found in a cache). seconds: both together."""

    device: DeviceId
    name: str
    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class KernelFinished:
    """A kernel ran. seconds: its own time where the device measures it, else submission to completion."""

    device: DeviceId
    name: str
    seconds: float


@hookspec(firstresult=True)
def pluggrad_backend(api: PluginApi) -> Backend | None:
    """The backend of this plugin's device. Cheap: no driver, no NumPy; those wait for `probe` and `open`.

    Example:
        @hookimpl
        def pluggrad_backend(api):
            from acme.backend import AcmeBackend
            return AcmeBackend()
    """


@hookspec
def pluggrad_renderers(device_type: str) -> Mapping[str, ToolchainFactory]:
    """Further toolchains for a device that somebody else owns, by variant: the name behind `@`.

    Example:
        @hookimpl
        def pluggrad_renderers(device_type):
            return {"wgsl": WgslToolchain} if device_type == "acme" else {}
    """
    return {}


@hookspec(firstresult=True)
def pluggrad_choose_default(candidates: Sequence[str]) -> str | None:
    """A site's policy: which of `candidates` (those that work, best first) to use when nobody named one.

    Example:
        @hookimpl
        def pluggrad_choose_default(candidates):
            return "acme" if "acme" in candidates else None    # None: no opinion
    """


@hookspec
def pluggrad_device_opened(device: Device) -> None:
    """A device was opened in this process.

    Example:
        @hookimpl
        def pluggrad_device_opened(device):
            log.info("opened %s", device.target.arch)
    """


@hookspec
def pluggrad_kernel_compiled(event: KernelCompiled) -> None:
    """A kernel was compiled.

    Example:
        @hookimpl
        def pluggrad_kernel_compiled(event):
            log.info("%s took %.1f ms", event.name, event.seconds * 1e3)
    """


@hookspec
def pluggrad_kernel_finished(event: KernelFinished) -> None:
    """A kernel ran to its end.

    Example:
        @hookimpl
        def pluggrad_kernel_finished(event):
            totals[event.name] += event.seconds
    """


class Hooks(Protocol):
    """The same hooks as they are called: by keyword; a list of results, or the first that is not None."""

    def pluggrad_backend(self, *, api: PluginApi) -> Backend | None: ...
    def pluggrad_renderers(self, *, device_type: str) -> list[Mapping[str, ToolchainFactory]]: ...
    def pluggrad_choose_default(self, *, candidates: Sequence[str]) -> str | None: ...
    def pluggrad_device_opened(self, *, device: Device) -> list[None]: ...
    def pluggrad_kernel_compiled(self, *, event: KernelCompiled) -> list[None]: ...
    def pluggrad_kernel_finished(self, *, event: KernelFinished) -> list[None]: ...

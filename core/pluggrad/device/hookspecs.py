"""What a plugin may implement. A plugin module decorates functions of these names with `hookimpl`.

Hooks are for the rare moments: finding devices, choosing one, opening one. None lies on the launch path; the
kernel and copy events are fired only while somebody listens. While somebody listens to kernels that finished,
or to copies, command lists run command by command, so that each is timed by itself. Times of events are
seconds on the clock of `time.perf_counter`.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

import pluggy

from pluggrad.device.contract import Backend, Device, Variant
from pluggrad.device.versions import API_MAJOR, API_MINOR
from pluggrad.target import DeviceId

PROJECT: Final = "pluggrad"

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class PluginApi:
    """What the core tells a plugin: the API version, and the entry-point name under which it was found."""

    device_type: str
    major: int = API_MAJOR
    minor: int = API_MINOR


@dataclass(frozen=True, slots=True)
class KernelInfo:
    """What a kernel is: the same whether it was compiled now or found in a cache.

    name: its symbol. title: what it computes, for people, such as "sum_where_64_64". buffers, axes: its
    arguments and its loops, as text. flops: arithmetic operations of one run that its expression has, each
    counted as one. bytes: moved by one run, each element once.
    """

    name: str
    title: str
    buffers: str
    axes: str
    flops: int
    bytes: int


class PhaseTime(NamedTuple):
    """A part of making a kernel: "lower", "render" or "compile", of which those compiled together share."""

    phase: str
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class KernelCompiled:
    """A kernel was rendered and compiled (not: found in a cache)."""

    device: DeviceId
    kernel: KernelInfo
    source: str
    phases: tuple[PhaseTime, ...]

    @property
    def seconds(self) -> float:
        """All phases together."""
        return sum(phase.seconds for phase in self.phases)


@dataclass(frozen=True, slots=True)
class KernelFinished:
    """A kernel ran. seconds: its own time where the device measures it (feature `events`), else from
    submission to completion."""

    device: DeviceId
    kernel: KernelInfo
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class CopyFinished:
    """Bytes were copied: from the host (upload), to it (download), from device `source`, or within `device`.

    seconds: until the call returned, or the device's own time as in `KernelFinished`.
    """

    device: DeviceId
    kind: Literal["upload", "download", "transfer", "copy"]
    nbytes: int
    start: float
    seconds: float
    source: DeviceId | None = None


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
def pluggrad_renderers(device_type: str) -> Mapping[str, Variant]:
    """Further ways of making code for a device that somebody else owns, by the name behind `@`.

    Example:
        @hookimpl
        def pluggrad_renderers(device_type):
            return {"wgsl": WgslVariant()} if device_type == "acme" else {}
    """
    return {}


@hookspec(firstresult=True)
def pluggrad_choose_default(candidates: Sequence[str]) -> str | None:
    """A site's policy: the device to use when nobody names one; `candidates` are those that work, best first.

    Any device name will do, such as "acme:1". A policy that raises or names what is not there is passed over.

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
            log.info("%s took %.1f ms", event.kernel.title, event.seconds * 1e3)
    """


@hookspec
def pluggrad_kernel_finished(event: KernelFinished) -> None:
    """A kernel ran to its end.

    Example:
        @hookimpl
        def pluggrad_kernel_finished(event):
            totals[event.kernel.name] += event.seconds
    """


@hookspec
def pluggrad_copy_finished(event: CopyFinished) -> None:
    """Bytes were copied to, from, between or within devices.

    Example:
        @hookimpl
        def pluggrad_copy_finished(event):
            moved[event.kind] += event.nbytes
    """


class Hooks(Protocol):
    """The same hooks as they are called: by keyword; a list of results, or the first that is not None."""

    def pluggrad_backend(self, *, api: PluginApi) -> Backend | None: ...
    def pluggrad_renderers(self, *, device_type: str) -> list[Mapping[str, Variant]]: ...
    def pluggrad_choose_default(self, *, candidates: Sequence[str]) -> str | None: ...
    def pluggrad_device_opened(self, *, device: Device) -> list[None]: ...
    def pluggrad_kernel_compiled(self, *, event: KernelCompiled) -> list[None]: ...
    def pluggrad_kernel_finished(self, *, event: KernelFinished) -> list[None]: ...
    def pluggrad_copy_finished(self, *, event: CopyFinished) -> list[None]: ...

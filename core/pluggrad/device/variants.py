"""Variants of devices: the name behind `@`, which is the backend's own or one that an extension brings."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pluggrad import config
from pluggrad.device.contract import Probe, Toolchain, Variant
from pluggrad.device.plugins import Plugin, PluginHost
from pluggrad.errors import DeviceUnavailable, PluginFailed, UnknownDevice
from pluggrad.target import DeviceId, Target


@dataclass(frozen=True, slots=True)
class Brought:
    """A variant, and the extension that brings it, which errors name."""

    name: str
    variant: Variant
    extension: Plugin

    @property
    def provider(self) -> str:
        """Distribution and version of the extension."""
        return self.extension.entry.provider

    def probe(self) -> Probe:
        """Whether the variant works here; PluginFailed if it breaks instead of saying so."""
        return self.extension.attempt("probe", self.variant.probe, Probe)

    def target(self, target: Target) -> Target:
        """The target that code is made for."""
        return self.extension.attempt("target", lambda: self.variant.target(target), Target)

    def toolchain(self, target: Target) -> Toolchain:
        """Renderer and compiler."""
        return self.extension.attempt("toolchain", lambda: self.variant.toolchain(target), Toolchain)


def brought_for(device_type: str, host: PluginHost, warn: Callable[[str], None]) -> dict[str, list[Brought]]:
    """What extensions bring for a device type, by name. One that breaks here is left out, and said so."""
    found: dict[str, list[Brought]] = defaultdict(list)
    for extension, _, call in host.each("pluggrad_renderers", device_type=device_type):
        if extension is None:  # errors name a distribution
            continue
        try:
            for name, variant in extension.attempt("renderers", partial(_offered, call), dict).items():
                found[name].append(Brought(name, variant, extension))
        except PluginFailed as error:
            warn(str(error))
    return dict(found)


def _offered(call: Callable[[], object]) -> dict[str, Variant]:
    offered = call()
    if not isinstance(offered, Mapping):
        raise TypeError(f"the result of pluggrad_renderers is {type(offered).__name__}, expected a mapping")
    for name, variant in offered.items():
        if not isinstance(variant, Variant):
            raise TypeError(f"variant {name!r} is {type(variant).__name__}, expected Variant")
    return dict(offered)


def bringer(device: DeviceId, own: Sequence[str], brought: Mapping[str, Sequence[Brought]]) -> Brought | None:
    """Who brings the variant of `device`; None where there is none, or the backend has it itself.

    UnknownDevice with the variants that there are; DeviceUnavailable where two extensions bring it.
    """
    if not device.variant or device.variant in own:
        return None
    found = brought.get(device.variant, ())
    if not found:
        raise UnknownDevice(_unknown(device, own, brought), op="device")
    if len(found) > 1:
        rivals = sorted(found, key=lambda each: each.provider)
        providers = " and ".join(each.provider for each in rivals)
        hint = f"{config.DISABLE.variable}={rivals[0].extension.entry.name}"
        raise DeviceUnavailable(f"both {providers} bring variant '{device.variant}' of '{device.type}'"
                                f"    try: {hint}", hint=hint)
    return found[0]


def require_working(device: DeviceId, brought: Brought) -> None:
    """DeviceUnavailable with reason and fix unless the variant works here."""
    probe = brought.probe()
    if probe.count <= 0:
        fix = f"    try: {probe.fix}" if probe.fix else ""
        raise DeviceUnavailable(f"device '{device}' ({brought.provider}) is unavailable: "
                                f"{probe.reason or 'it does not work here'}{fix}", hint=probe.fix)


def _unknown(device: DeviceId, own: Sequence[str], brought: Mapping[str, Sequence[Brought]]) -> str:
    known = [f"{device.type}@{name}" for name in own]
    known += [f"{device.type}@{name} ({found[0].provider})" for name, found in sorted(brought.items())]
    listed = f"Known: {', '.join(known)}." if known else "It has none."
    return f"device '{device.type}' has no variant '{device.variant}'. {listed}"

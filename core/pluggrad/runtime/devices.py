"""Devices as users meet them: `Device.DEFAULT`, `Device[name]`, `set_default_device`, `with device(name)`."""
from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from pluggrad.device.registry import REGISTRY, DeviceInfo
from pluggrad.runtime.memory import MemoryStats
from pluggrad.runtime.sessions import memory_of
from pluggrad.runtime.values import synchronize
from pluggrad.target import Capabilities, DeviceId


class DeviceHandle(DeviceId):
    """One device, by `Device[name]`: checked to exist when the handle is made, opened when it has work.

    It is a name with properties: whatever takes a name takes a handle, and equal names are equal handles.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Device {self.name}: {self.hardware} ({self.distribution} {self.version})>"

    @property
    def name(self) -> str:
        """The canonical name, `type[:index][@variant]`."""
        return str(self)

    @property
    def hardware(self) -> str:
        """What the driver calls it; the name if it calls it nothing."""
        names = REGISTRY.probe(self.type).names
        return names[self.index] if self.index < len(names) else self.name

    @property
    def distribution(self) -> str:
        """The installed distribution whose plugin provides it."""
        return REGISTRY.plugin(self.type).entry.distribution

    @property
    def version(self) -> str:
        """Version of that distribution."""
        return REGISTRY.plugin(self.type).entry.version

    @property
    def driver(self) -> str:
        """The plugin's line about drivers and libraries; may be empty."""
        return REGISTRY.backend(self.type).describe()

    @property
    def arch(self) -> str:
        """What its toolchain compiles for."""
        return REGISTRY.target(self).arch

    @property
    def capabilities(self) -> Capabilities:
        """What the device can do: dtypes, widths, limits, costs."""
        return REGISTRY.target(self).capabilities

    @property
    def features(self) -> frozenset[str]:
        """Optional abilities that it declares, such as "graph" or "events"."""
        return self.capabilities.features

    @property
    def memory(self) -> MemoryStats:
        """Bytes of its memory now; all 0 as long as nothing used it."""
        return memory_of(self)

    def synchronize(self) -> None:
        """Wait for everything submitted to the device; raises what went wrong meanwhile."""
        synchronize(self)


class Devices:
    """The type of `Device`: a table of devices by name, and the default."""

    @property
    def DEFAULT(self) -> str:
        """Name of the device that tensors are made on when none is named; assign to change it."""
        return str(REGISTRY.resolve(None))

    @DEFAULT.setter
    def DEFAULT(self, name: str | DeviceId) -> None:
        set_default_device(name)

    def __getitem__(self, name: str | DeviceId) -> DeviceHandle:
        """The device called `name`; UnknownDevice, DeviceUnavailable or PluginFailed with reason and fix."""
        return DeviceHandle(*REGISTRY.resolve(name))

    def __repr__(self) -> str:
        installed = ", ".join(sorted({info.name for info in REGISTRY.installed()}))
        return f"<Device: installed {installed or 'none'}>"

    @staticmethod
    def available() -> tuple[str, ...]:
        """Names of the device types that work here, best first."""
        return REGISTRY.available()

    @staticmethod
    def count(device_type: str) -> int:
        """How many devices of a type there are, 0 if none works; UnknownDevice if no plugin provides it."""
        return REGISTRY.probe(device_type).count


Device: Final = Devices()


def set_default_device(name: str | DeviceId | None) -> None:
    """Make tensors on `name` where none is named. None: choose again, by PLUGGRAD_DEVICE or tier."""
    REGISTRY.set_default(name)


def default_device() -> str:
    """Name of the device that tensors are made on when none is named."""
    return str(REGISTRY.resolve(None))


def device(name: str | DeviceId) -> AbstractContextManager[DeviceId]:
    """`with device("name:1"):` makes tensors there by default in the block, in this thread."""
    return REGISTRY.scoped(name)


def devices() -> list[DeviceInfo]:
    """A row for every installed device plugin: name, state, count, distribution, version, reason and fix.

    Probes each plugin in this process; `python -m pluggrad devices` does so in processes of their own.
    """
    REGISTRY.available()
    return REGISTRY.installed()

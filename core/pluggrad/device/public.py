"""Devices as users meet them: `Device.DEFAULT`, `Device[name]`, `set_default_device`, `with device(name)`."""
from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from pluggrad.device.registry import REGISTRY, DeviceInfo
from pluggrad.target import Capabilities, DeviceId


class DeviceHandle:
    """One device, by `Device[name]`: checked to exist when the handle is made, opened when it has work."""

    __slots__ = ("id",)

    def __init__(self, device: DeviceId) -> None:
        self.id: Final = device

    def __repr__(self) -> str:
        return f"Device[{str(self.id)!r}]"

    def __str__(self) -> str:
        return str(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def name(self) -> str:
        """The canonical name."""
        return str(self.id)

    @property
    def capabilities(self) -> Capabilities:
        """What the device can do."""
        return REGISTRY.target(self.id).capabilities

    def synchronize(self) -> None:
        """Wait for everything submitted to the device; raises what went wrong meanwhile."""
        REGISTRY.open_device(self.id).synchronize()


class Devices:
    """The type of `Device`: a table of devices by name, and the default."""

    @property
    def DEFAULT(self) -> str:
        """Name of the device that tensors are made on when none is named; assign to change it."""
        return str(REGISTRY.resolve(None))

    @DEFAULT.setter
    def DEFAULT(self, name: str) -> None:
        set_default_device(name)

    def __getitem__(self, name: str | DeviceId) -> DeviceHandle:
        """The device called `name`; UnknownDevice, DeviceUnavailable or PluginFailed with reason and fix."""
        return DeviceHandle(REGISTRY.resolve(name))

    def __repr__(self) -> str:
        return "Device"

    @staticmethod
    def available() -> tuple[str, ...]:
        """Names of the device types that work here, best first."""
        return REGISTRY.available()


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

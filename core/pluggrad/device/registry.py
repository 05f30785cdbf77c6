"""The devices of this process: each plugin loaded when first needed, each device opened once."""
from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from pluggrad import config
from pluggrad.device import default, markers
from pluggrad.device.contract import Allocator, Backend, Device, Probe, Toolchain
from pluggrad.device.discovery import Entry, discover
from pluggrad.device.hookspecs import Hooks
from pluggrad.device.names import CORE_DISTRIBUTION, NOT_INSTALLED, meaning, unknown
from pluggrad.device.plugins import Plugin, PluginHost, named_targets, reason_of
from pluggrad.device.variants import Brought, bringer, brought_for, require_working
from pluggrad.errors import DeviceError, DeviceUnavailable, UnknownDevice, warn
from pluggrad.target import DeviceId, Target

if TYPE_CHECKING:
    from pluggrad.kernel.kernel import Kernel
    from pluggrad.kernel.offer import Claim

State = Literal["installed", "ready", "unavailable", "failed", "incompatible", "shadowed", "blocked"]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One plugin entry point as this process knows it; "installed" until something needs the plugin.

    phase: where it broke. count: devices it sees. reason, fix: why it does not work, and what to do.
    """

    name: str
    state: State
    distribution: str
    version: str
    count: int = 0
    phase: str = ""
    reason: str = ""
    fix: str = ""
    traceback: str = ""


class Registry:
    """What this process knows about devices. The module's functions are the methods of one instance."""

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self._path = path  # folders to look for plugins in, instead of sys.path
        self._scoped: ContextVar[DeviceId | None] = ContextVar("pluggrad_device", default=None)
        self.reset()

    def reset(self) -> None:
        """Close devices and forget everything; the next use looks again. For tests."""
        if hasattr(self, "_open"):
            self.close_all()
        self._lock = threading.RLock()
        self._host = PluginHost()
        self._entries: tuple[Entry, ...] | None = None
        self._plugins: dict[str, Plugin] = {}
        self._extensions_loaded = False
        # names and ids that were checked; a miss costs a lookup of the plugin, a hit nothing
        self._verified: dict[str | DeviceId, DeviceId] = {}
        self._default: DeviceId | None = None
        self._choice: default.Choice | None = None
        self._open: dict[DeviceId, Device] = {}
        self._targets: dict[DeviceId, Target] = {}
        self._toolchains: dict[DeviceId, Toolchain] = {}
        self._variants: dict[str, dict[str, list[Brought]]] = {}
        self._warned: set[str] = set()
        self._pid = os.getpid()

    # ------------------------------------------------------------------------------------------- names

    def resolve(self, name: str | DeviceId | None = None) -> DeviceId:
        """The device that `name` means, checked to exist; None: the default device.

        UnknownDevice, DeviceUnavailable or PluginFailed with reason and fix; a name never falls back.
        """
        if name is None:  # asked at every call of a captured function
            found = self._scoped.get() or self._default
            return found if found is not None else (self._choice or self._chosen()).device
        try:
            known = self._verified.get(name)
        except TypeError:  # unhashable, and so no name
            known = None
        if known is not None:
            return known
        with self._lock:
            device = self._verify(_parse(name))
            self._verified[name] = self._verified[str(device)] = self._verified[device] = device
        return device

    def _verify(self, asked: DeviceId) -> DeviceId:
        plugin = self.plugin(asked.type)
        device = DeviceId(plugin.entry.name, asked.index, asked.variant)
        entry, probe = plugin.entry, plugin.probe()
        markers.clear(entry)
        if probe.count <= 0:
            raise _unavailable(entry, probe.reason or "it sees no device", probe.fix)
        if device.index >= probe.count:
            seen = "1 device" if probe.count == 1 else f"{probe.count} devices"
            last = f"..{device.type}:{probe.count - 1}" if probe.count > 1 else ""
            raise DeviceUnavailable(f"{device.type}:{device.index} does not exist: {entry.distribution} sees "
                                    f"{seen} ({device.type}:0{last})")
        brought = self._brought(device)
        if brought is not None:
            require_working(device, brought)
        return device

    def plugin(self, device_type: str) -> Plugin:
        """The plugin of a device type, maybe not imported yet; UnknownDevice or DeviceUnavailable."""
        entries = self.entries()
        claimed = {e.name for e in entries if e.kind == "devices" and e.verdict != "shadowed"}
        name = meaning(device_type, claimed)
        if name in self._plugins:
            return self._plugins[name]
        refused = [entry for entry in entries if entry.kind == "devices" and entry.name == name]
        for entry in refused:
            if entry.verdict != "shadowed":
                raise _unavailable(entry, entry.reason, entry.fix)
        remark = f"{refused[0].distribution} is not loaded: {refused[0].reason}." if refused else ""
        if not any(entry.distribution == CORE_DISTRIBUTION for entry in entries):
            remark = f"{remark} Note: {NOT_INSTALLED}".strip()
        raise unknown(name, self._plugins, asked=device_type, remark=remark)

    def entries(self) -> tuple[Entry, ...]:
        """Every entry point found, with its verdict. Reads metadata once; imports nothing."""
        if self._entries is None:
            with self._lock:
                entries = discover(self._path)
                self._plugins = {entry.name: Plugin(entry, self._host) for entry in entries
                                 if entry.kind == "devices" and entry.verdict == "loadable"}
                self._entries = entries
        return self._entries

    # ----------------------------------------------------------------------------------------- default

    def set_default(self, name: str | DeviceId | None) -> None:
        """Make `name` the default device of the program; None: choose again."""
        self._choice = None
        self._default = None if name is None else self.resolve(name)

    @contextmanager
    def scoped(self, name: str | DeviceId) -> Iterator[DeviceId]:
        """Make `name` the default device in a block of this thread."""
        device = self.resolve(name)
        token = self._scoped.set(device)
        try:
            yield device
        finally:
            self._scoped.reset(token)

    def default_reason(self) -> str:
        """Why `resolve(None)` is what it is."""
        if self._scoped.get() is not None:
            return "with device(...)"
        return "set_default_device" if self._default is not None else self._chosen().reason

    def _chosen(self) -> default.Choice:
        with self._lock:
            if self._choice is None:
                self._choice = self._choose()
            return self._choice

    def _choose(self) -> default.Choice:
        entries = self.entries()
        wanted = config.DEVICE.value
        if len(wanted) == 1:  # a single name is explicit: it works or raises
            return default.Choice(self.resolve(wanted[0]), config.DEVICE.variable)
        if wanted:
            return default.from_list(wanted, self._opened, self._warn_once)
        self.load_extensions()
        return default.by_tier(list(self._plugins.values()), entries, self._host, self.resolve,
                               self._warn_once)

    def _opened(self, name: str) -> DeviceId:
        device = self.resolve(name)
        self.open_device(device)
        return device

    # ----------------------------------------------------------------------------------------- devices

    def backend(self, device_type: str) -> Backend:
        """The backend of a device type; PluginFailed with the phase if its plugin is broken."""
        with self._lock:
            return self.plugin(device_type).backend()

    def probe(self, device_type: str) -> Probe:
        """What the backend sees, asked once."""
        with self._lock:
            return self.plugin(device_type).probe()

    def target(self, device: DeviceId) -> Target:
        """What code is made for on `device`."""
        found = self._targets.get(device)
        if found is not None:
            return found
        with self._lock:
            plugin = self.plugin(device.type)
            backend, brought = plugin.backend(), self._brought(device)
            own = device.variant if brought is None else ""
            target = plugin.attempt("target", lambda: backend.target(device.index, own), Target)
            return self._targets.setdefault(device, target if brought is None else brought.target(target))

    def toolchain(self, device: DeviceId) -> Toolchain:
        """Renderer and compiler for `device`: its backend's, or an extension's that provides the variant."""
        found = self._toolchains.get(device)
        if found is not None:
            return found
        with self._lock:
            toolchain = self.toolchain_for(device, self.target(device))
            return self._toolchains.setdefault(device, toolchain)

    def named_targets(self, device: DeviceId) -> dict[str, Target]:
        """The targets that the backend of `device` knows by name; there need be no such device here."""
        plugin, brought = self.plugin(device.type), self._brought(device)
        backend = plugin.backend()
        known = plugin.attempt("target", lambda: named_targets(backend), dict)
        return known if brought is None else {name: brought.target(known[name]) for name in known}

    def toolchain_for(self, device: DeviceId, target: Target) -> Toolchain:
        """Renderer and compiler for any target of the backend of `device`, or of who brings its variant."""
        plugin, brought = self.plugin(device.type), self._brought(device)
        if brought is not None:
            return brought.toolchain(target)
        backend = plugin.backend()
        return plugin.attempt("toolchain", lambda: backend.toolchain(target), Toolchain)

    def claim(self, device: DeviceId) -> Claim | None:
        """Asks the backend of `device` for code of its own for a kernel; None if it never brings any."""
        plugin, target = self.plugin(device.type), self.target(device)
        backend = plugin.backend()
        if type(backend).claim is Backend.claim:
            return None
        from pluggrad.kernel.matmul import find_matmul  # for backends that claim alone
        from pluggrad.kernel.offer import Extern, Offer

        def ask(kernel: Kernel) -> Extern | None:
            offer = Offer(kernel, target, find_matmul(kernel))
            return plugin.attempt("claim", lambda: backend.claim(offer), Extern | None)

        return ask

    def open_device(self, device: DeviceId) -> Device:
        """The open device, opened on the first call in this process."""
        found = self._open.get(device)
        if found is not None:
            return found
        with self._lock:
            if device in self._open:
                return self._open[device]
            plugin, brought = self.plugin(device.type), self._brought(device)
            hardware = device if brought is None else DeviceId(device.type, device.index)
            opened = self._open.get(hardware) or self._open_hardware(plugin, hardware)
            self._open[device] = opened
            return opened

    def _open_hardware(self, plugin: Plugin, device: DeviceId) -> Device:
        backend = plugin.backend()
        opened = plugin.attempt("open", lambda: backend.open(device.index, device.variant), Device)
        plugin.attempt("open", lambda: opened.allocator, Allocator)
        self._open[device] = opened
        self.tell("pluggrad_device_opened", device=opened)
        return opened

    def close_all(self) -> None:
        """Close every open device; a device that cannot be closed is logged."""
        opened, self._open = self._open, {}
        if os.getpid() != self._pid:  # a forked child must not close its parent's devices
            return
        for device in {id(device): device for device in opened.values()}.values():
            try:
                device.close()
            except Exception:
                import logging  # when it is needed: it takes 4 ms

                logging.getLogger("pluggrad").warning("closing %s failed", device.target.arch, exc_info=True)

    # -------------------------------------------------------------------------------------- extensions

    def hooks(self, name: str) -> Hooks | None:
        """The hooks, if anybody implements the hook `name`; None saves making an event that nobody hears."""
        self.load_extensions()
        return self._host.hooks if self._host.listening(name) else None

    @property
    def observed(self) -> bool:
        """Whether anybody listens to kernels that finished, or to copies: cheap, asked at every launch."""
        return self._host.observed

    def tell(self, hook: str, **what: object) -> None:
        """Call observers. One that raises is warned about and left out: it must take nothing away."""
        for observer in self._host.each(hook, **what):
            try:
                observer.call()
            except Exception as error:
                self._host.leave_out(hook, observer.module)
                self._warn_once(f"{observer.provider} is left out of {hook}: {reason_of(error)}")

    def load_extensions(self) -> None:
        """Import the installed extensions, so that those that observe do so from the first kernel on."""
        if self._extensions_loaded:
            return
        with self._lock:
            for entry in self.entries():
                if entry.kind == "extensions" and entry.verdict == "loadable":
                    self._load_extension(entry)
            self._extensions_loaded = True

    def add_observer(self, observer: object) -> None:
        """Register an object whose methods are hook implementations."""
        self._host.register(observer)

    def remove_observer(self, observer: object) -> None:
        """Undo `add_observer`."""
        self._host.unregister(observer)

    def _load_extension(self, entry: Entry) -> None:
        try:
            Plugin(entry, self._host).load_extension()  # registering it twice changes nothing
        except DeviceError as error:
            self._warn_once(str(error))

    def brought(self, device_type: str) -> dict[str, list[Brought]]:
        """The variants that installed extensions bring for a device type, by the name behind `@`."""
        if device_type not in self._variants:
            self.load_extensions()
            self._variants[device_type] = brought_for(device_type, self._host, self._warn_once)
        return self._variants[device_type]

    def _brought(self, device: DeviceId) -> Brought | None:
        if not device.variant:
            return None
        return bringer(device, self.plugin(device.type).backend().variants, self.brought(device.type))

    # -------------------------------------------------------------------------------------------- lists

    def available(self) -> tuple[str, ...]:
        """The device types that work here, best first. Probes every installed plugin."""
        with self._lock:
            self.entries()
            found = default.working(list(self._plugins.values()), self._warn_once)
        return tuple(candidate.name for candidate in found)

    def installed(self) -> list[DeviceInfo]:
        """A row for each device entry point, as far as this process knows it. Imports nothing."""
        with self._lock:
            return [self._info(entry) for entry in self.entries() if entry.kind == "devices"]

    def _info(self, entry: Entry) -> DeviceInfo:
        info = DeviceInfo(entry.name, "installed", entry.distribution, entry.version)
        if entry.verdict != "loadable":
            phase = "metadata" if entry.verdict == "failed" else ""
            return replace(info, state=entry.verdict, phase=phase, reason=entry.reason, fix=entry.fix)
        plugin = self._plugins[entry.name]
        if plugin.failure is not None:
            broken = plugin.failure
            return replace(info, state="failed", phase=broken.phase, reason=broken.reason, fix=broken.fix,
                           traceback=broken.traceback)
        if not plugin.settled:
            return info
        probe = plugin.probe()
        state: State = "ready" if probe.count > 0 else "unavailable"
        return replace(info, state=state, count=probe.count, reason=probe.reason, fix=probe.fix)

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warn(message)

    def after_fork(self) -> None:
        """In a forked child: a lock that another thread of the parent held would never be released."""
        self._lock = threading.RLock()


def _parse(name: object) -> DeviceId:
    if isinstance(name, DeviceId):
        return name
    if isinstance(name, str):
        return DeviceId.parse(name)
    raise UnknownDevice(op="device", expected="a device name", got=f"{name!r} ({type(name).__name__})")


def _unavailable(entry: Entry, reason: str, fix: str) -> DeviceUnavailable:
    hint = f"    try: {fix}" if fix else ""
    message = f"device '{entry.name}' ({entry.provider}) is unavailable: {reason}{hint}"
    return DeviceUnavailable(message, hint=fix)


REGISTRY: Final = Registry()
atexit.register(REGISTRY.close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=REGISTRY.after_fork)

resolve = REGISTRY.resolve
backend = REGISTRY.backend
probe = REGISTRY.probe
target = REGISTRY.target
toolchain = REGISTRY.toolchain
open_device = REGISTRY.open_device
close_all = REGISTRY.close_all
hooks = REGISTRY.hooks
add_observer = REGISTRY.add_observer
remove_observer = REGISTRY.remove_observer
available = REGISTRY.available
installed = REGISTRY.installed

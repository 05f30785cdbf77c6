"""Importing, registering and probing one plugin at a time: a broken one is a recorded failure, no more."""
from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Final, Literal, NamedTuple, TypeVar, cast

import pluggy

from pluggrad.device import hookspecs
from pluggrad.device.contract import Backend, Probe
from pluggrad.device.discovery import Entry
from pluggrad.device.hookspecs import Hooks, PluginApi
from pluggrad.device.names import CORE_DISTRIBUTION
from pluggrad.device.versions import API_MAJOR, API_MINOR, warn_overriding
from pluggrad.errors import DeviceError, PluginFailed, SettingError
from pluggrad.target import Target

T = TypeVar("T")
_AT_EVERY_LAUNCH: Final = ("pluggrad_kernel_finished", "pluggrad_copy_finished")
_DOOR: Final = "pluggrad.plugin_api"  # what ImportError names when a plugin imports what this core lacks
Phase = Literal["metadata", "import", "register", "backend", "probe", "target", "toolchain", "claim", "open",
                "smoke", "renderers"]


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a plugin, in which phase, what to try, and the traceback as text."""

    phase: Phase
    reason: str
    fix: str
    traceback: str
    cause: BaseException | None = None

    def error(self, entry: Entry) -> PluginFailed:
        """The exception to raise; a new one each time, so that tracebacks do not pile up on a shared one."""
        kind = entry.kind.removesuffix("s")  # device or extension
        error = PluginFailed(f"{kind} '{entry.name}' ({entry.provider}) failed at {self.phase}: {self.reason}"
                             f"    try: {self.fix}", phase=self.phase, hint=self.fix)
        error.__cause__ = self.cause
        return error


class _CoreTooOld(Exception):
    """A plugin needs a later minor version of the plugin API."""


class Implementation(NamedTuple):
    """Somebody's implementation of a hook, ready to be called. owner: None for an object of this process."""

    owner: Plugin | None
    module: object
    call: Callable[[], object]

    @property
    def provider(self) -> str:
        """Distribution and version, for messages."""
        return "this process" if self.owner is None else self.owner.entry.provider


class PluginHost:
    """The pluggy manager: registers modules one by one and calls the hooks of one or of all."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.hooks: Final = cast(Hooks, self.manager.hook)
        self._owners: dict[int, Plugin | None] = {}
        self._left_out: set[tuple[str, int]] = set()
        self.observed = False  # anybody listens to what happens at every launch

    def register(self, module: object, owner: Plugin | None = None) -> None:
        """Register a module or observer; PluginValidationError if a hook has a wrong name or signature."""
        if self.manager.is_registered(module):
            return
        self._owners[id(module)] = owner
        try:
            self.manager.register(module)
            self.manager.check_pending()
        except BaseException:
            if self.manager.is_registered(module):
                self.manager.unregister(module)
            raise
        self.observed = any(map(self.listening, _AT_EVERY_LAUNCH))

    def unregister(self, module: object) -> None:
        """Forget a module or observer object."""
        self.manager.unregister(module)
        self._left_out = {(hook, other) for hook, other in self._left_out if other != id(module)}
        self.observed = any(map(self.listening, _AT_EVERY_LAUNCH))

    def listening(self, hook: str) -> bool:
        """Whether anybody implements `hook`."""
        return any((hook, id(found.plugin)) not in self._left_out
                   for found in getattr(self.manager.hook, hook).get_hookimpls())

    def each(self, hook: str, **what: object) -> Iterator[Implementation]:
        """The implementations of `hook`, the last registered first, to be called one by one.

        pluggy's own call would let one that raises keep the others from being called.
        """
        for found in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            if (hook, id(found.plugin)) not in self._left_out:
                call = partial(found.function, *[what[name] for name in found.argnames])
                yield Implementation(self._owners[id(found.plugin)], found.plugin, call)

    def leave_out(self, hook: str, module: object) -> None:
        """Call a module's implementation of `hook` no more."""
        self._left_out.add((hook, id(module)))
        self.observed = any(map(self.listening, _AT_EVERY_LAUNCH))

    def backend(self, module: object, device_type: str) -> Backend:
        """What this one module's `pluggrad_backend` returns."""
        others = [plugin for plugin in self.manager.get_plugins() if plugin is not module]
        call = self.manager.subset_hook_caller("pluggrad_backend", remove_plugins=others)
        return cast(Backend, call(api=PluginApi(device_type)))


class Plugin:
    """One loadable entry point: imported when first asked for, its result or failure kept."""

    def __init__(self, entry: Entry, host: PluginHost) -> None:
        self.entry, self._host = entry, host
        self.failure: Failure | None = None
        self.on_phase: Callable[[Phase], None] = lambda phase: None
        self._backend: Backend | None = None
        self._probe: Probe | None = None

    @property
    def settled(self) -> bool:
        """It was probed, or it failed: nothing of it is run again by asking."""
        return self._probe is not None or self.failure is not None

    def backend(self) -> Backend:
        """Import, register, make the backend; PluginFailed with the phase that broke."""
        if self._backend is None:
            module = self._attempt("import", self._import)
            self._attempt("register", lambda: self._host.register(module, self))
            self._backend = self._attempt("backend", lambda: self._made_by(module))
        return self._backend

    def probe(self) -> Probe:
        """What the backend sees; PluginFailed if it breaks instead of saying so."""
        if self._probe is None:
            backend = self.backend()
            self._probe = self._attempt("probe", lambda: _seen_by(backend))
        return self._probe

    def attempt(self, phase: Phase, action: Callable[[], T], kind: type | UnionType) -> T:
        """Run a later phase (target, toolchain, claim, open); a DeviceError, the plugin's word, passes."""
        try:
            made = _expect(action(), kind, phase)
        except DeviceError:
            raise
        except BaseException as error:
            raise self._failed(phase, error).error(self.entry) from error
        warn_overriding(made)
        return made

    def _import(self) -> object:
        # loading by hand, not through pluggy: its loader would import every plugin at once
        from importlib.metadata import EntryPoint  # at first use: it brings much along

        return EntryPoint(self.entry.name, self.entry.value, f"pluggrad.{self.entry.kind}").load()

    def _made_by(self, module: object) -> Backend:
        made = self._host.backend(module, self.entry.name)
        backend = _expect(made, Backend, "the result of pluggrad_backend")
        _expect(backend.tier, int, "Backend.tier")
        if _expect(backend.api_minor, int, "Backend.api_minor") > API_MINOR:
            raise _CoreTooOld(f"it needs plugin API {API_MAJOR}.{backend.api_minor}; this pluggrad has "
                              f"{API_MAJOR}.{API_MINOR}")
        warn_overriding(backend)
        return backend

    def load_extension(self) -> None:
        """Import and register an extension; PluginFailed if it breaks."""
        module = self._attempt("import", self._import)
        self._attempt("register", lambda: self._host.register(module, self))

    def _attempt(self, phase: Phase, action: Callable[[], T]) -> T:
        if self.failure is not None:
            raise self.failure.error(self.entry)
        self.on_phase(phase)
        try:
            return action()
        except BaseException as error:
            self.failure = self._failed(phase, error)
            raise self.failure.error(self.entry) from error

    def _failed(self, phase: Phase, error: BaseException) -> Failure:
        if isinstance(error, KeyboardInterrupt):
            raise error
        text = "".join(traceback.format_exception(error))
        return Failure(phase, reason_of(error), _fix(self.entry, error), text, error)


def _seen_by(backend: Backend) -> Probe:
    probe = _expect(backend.probe(), Probe, "the result of probe()")
    _expect(probe.count, int, "Probe.count")
    return probe


def named_targets(backend: Backend) -> dict[str, Target]:
    """What a backend's `targets` gives; TypeError unless it is what it should be."""
    known = {_expect(name, str, "a name of targets()"): _expect(target, Target, f"targets()[{name!r}]")
             for name, target in _expect(backend.targets(), Mapping, "the result of targets()").items()}
    return known


def reason_of(error: BaseException) -> str:
    """An exception in one line; pluggy's long texts are cut to what names the hook."""
    if isinstance(error, (_CoreTooOld, SettingError)):
        return str(error)
    if isinstance(error, pluggy.PluginValidationError):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = " ".join(line for line in lines if not line.startswith("Plugin "))
        return (text or str(error)) + _closest_hook(text)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _closest_hook(text: str) -> str:
    if "unknown hook" not in text:
        return ""
    import difflib  # for a hint alone

    known = [name for name in vars(Hooks) if name.startswith(hookspecs.PROJECT)]
    for word in text.replace("'", " ").split():
        close = difflib.get_close_matches(word, known, n=1)
        if close:
            return f"; did you mean '{close[0]}'?"
    return ""


def _fix(entry: Entry, error: BaseException) -> str:
    if isinstance(error, _CoreTooOld) or getattr(error, "name", "") == _DOOR:
        return f"pip install --upgrade {CORE_DISTRIBUTION}"
    if isinstance(error, ImportError):
        return f"pip install --force-reinstall {entry.distribution}"
    if isinstance(error, SettingError):
        return f"give {error.op} another value, or unset it"
    return f"report it to {entry.distribution}; PLUGGRAD_DISABLE={entry.name} leaves it out"


def _expect(value: T, kind: type | UnionType, what: str) -> T:
    if isinstance(value, kind):
        return value
    raise TypeError(f"{what} is {type(value).__name__}, expected {getattr(kind, '__qualname__', kind)}")

"""Every setting: name, type, default, what it does, and whether it is part of a cache key.

A setting is read from the environment variable PLUGGRAD_<NAME> when it is first asked for, and
`with Context(NAME=value):` changes it for a block (of this thread). Plugins declare their own with `Setting`.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeVar, cast

from pluggrad.errors import SettingError, ValueRangeError

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
Source = Literal["default", "environment", "program", "context"]
PREFIX: Final = "PLUGGRAD_"

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})
_SETTINGS: Final[dict[str, Setting[Any]]] = {}
_NO_OVERRIDES: Final[Mapping[str, Any]] = MappingProxyType({})
_overrides: ContextVar[Mapping[str, Any]] = ContextVar("pluggrad_settings", default=_NO_OVERRIDES)


def _flag(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


# how the text of an environment variable becomes a value, and what to call it in an error
_READERS: Final[dict[type, tuple[Any, str]]] = {
    bool: (_flag, "0 or 1"), int: (int, "an integer"), float: (float, "a number"), str: (str, "text"),
    tuple: (_names, "names separated by commas"),
}


class Setting(Generic[T]):
    """One setting. Making one declares it; `value` is what holds now.

    name: upper case, without the PLUGGRAD_ prefix. kind: bool, int, float, str, or tuple (of names).
    keyed: it changes generated code, and so belongs to cache keys. scoped: `Context` may change it.
    choices: the texts that it may be.
    """

    __slots__ = (
        "name", "kind", "default", "doc", "keyed", "scoped", "minimum", "choices", "_base", "_source")

    def __init__(self, name: str, kind: type, default: T, doc: str, *, keyed: bool = False,
                 scoped: bool = True, minimum: int | None = None, choices: tuple[str, ...] = ()) -> None:
        self.name, self.kind, self.default, self.doc = name, kind, default, doc
        self.keyed, self.scoped, self.minimum, self.choices = keyed, scoped, minimum, choices
        self._base: T | None = None
        self._source: Source = "default"
        known = _SETTINGS.get(name)
        if known is not None and (known.kind, known.default) != (kind, default):
            raise ValueRangeError(op=f"setting {name}", expected="a name that is free", got="one in use",
                                  hint="begin a plugin's settings with its name")
        _SETTINGS[name] = self
        Summary.changes += 1

    def __repr__(self) -> str:
        return f"Setting({self.name}={self.value!r})"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name

    @property
    def value(self) -> T:
        """What holds here: the innermost `Context`, else the environment as first read, else the default."""
        overrides = _overrides.get()
        if overrides and self.name in overrides:
            return cast(T, overrides[self.name])
        return self._base if self._base is not None else self._read()

    @property
    def source(self) -> Source:
        """Where `value` comes from."""
        if self.name in _overrides.get():
            return "context"
        if self._base is None:
            self._read()
        return self._source

    def _read(self) -> T:
        text = os.environ.get(self.variable)
        self._source = "default" if text is None else "environment"
        self._base = self.default if text is None else self._parse(text.strip())
        return self._base

    def _parse(self, text: str) -> T:
        read, expected = _READERS[self.kind]
        try:
            return self.check(read(text))
        except ValueError as error:
            if isinstance(error, SettingError):
                raise
            raise SettingError(op=self.variable, expected=expected, got=repr(text)) from None

    def check(self, value: Any) -> T:
        """`value` in this setting's type; SettingError if it is not of it, too small or no choice.

        What has a `name`, as dtypes have, may stand for it.
        """
        checked: Any = getattr(value, "name", value) if self.choices else value
        if self.kind is bool and value in (0, 1):
            checked = bool(value)
        elif self.kind is tuple and isinstance(value, str):
            checked = _names(value)
        elif self.kind is float and type(value) is int:
            checked = float(value)
        if type(checked) is not self.kind:
            raise SettingError(op=self.variable, expected=_READERS[self.kind][1], got=repr(value))
        if isinstance(checked, (int, float)) and self.minimum is not None and checked < self.minimum:
            raise SettingError(op=self.variable, expected=f"at least {self.minimum}", got=repr(value))
        if self.choices and checked not in self.choices:
            raise SettingError(op=self.variable, expected=f"one of {', '.join(self.choices)}",
                               got=repr(value))
        return cast(T, checked)

    def assign(self, value: Any) -> None:
        """Let `value` hold from now on, in every thread, where no `Context` says otherwise."""
        self._base, self._source = self.check(value), "program"
        Summary.changes += 1

    def forget(self) -> None:
        """Read the environment again next time."""
        self._base = None
        Summary.changes += 1


class Summary(Generic[T]):
    """What follows from settings alone, for paths that ask at every call: worked out when one changes."""

    __slots__ = ("_work_out", "_known")
    changes: ClassVar[int] = 0  # of any setting so far

    def __init__(self, work_out: Callable[[], T]) -> None:
        self._work_out = work_out
        self._known: tuple[int, T] | None = None

    def __call__(self) -> T:
        if _overrides.get() is not _NO_OVERRIDES:  # inside a `Context`, which may hold for this thread alone
            return self._work_out()
        known, changes = self._known, Summary.changes
        if known is None or known[0] != changes:
            known = self._known = (changes, self._work_out())
        return known[1]


DEVICE: Final = Setting[tuple[str, ...]](
    "DEVICE", tuple, (), "default device, or a list of which the first that opens is taken", scoped=False)
PREFER: Final = Setting[tuple[str, ...]](
    "PREFER", tuple, (), "name=distribution: who provides a device name that two of them claim", scoped=False)
DISABLE: Final = Setting[tuple[str, ...]](
    "DISABLE", tuple, (), "device or distribution names that are never imported", scoped=False)
CACHE: Final = Setting("CACHE", bool, True, "keep plans and kernels on disk", scoped=False)
CACHE_DIR: Final = Setting(
    "CACHE_DIR", str, "", "folder of the disk cache (empty: the user's cache folder)", scoped=False)
CACHE_SIZE_MB: Final = Setting(
    "CACHE_SIZE_MB", int, 1024, "size of the disk cache, in MiB", scoped=False, minimum=0)
DEFAULT_FLOAT: Final = Setting(
    "DEFAULT_FLOAT", str, "float32", "dtype of Python floats, and of float tensors made without one",
    choices=("float16", "bfloat16", "float32", "float64"))
DEFAULT_INT: Final = Setting(
    "DEFAULT_INT", str, "int32", "dtype of Python integers, and of small integers' sums",
    choices=("int32", "int64"))
DEBUG: Final = Setting(
    "DEBUG", int, 0, "log, as 'pluggrad': 2: each kernel's time, rates and share of the limit, one by one; 3:"
    " also the source of kernels as they are compiled", minimum=0)
PROFILE: Final = Setting(
    "PROFILE", str, "", "write a trace of every kernel to this file when the program ends, for Perfetto",
    scoped=False)
MATMUL_PRECISION: Final = Setting(
    "MATMUL_PRECISION", str, "float32",
    "what float32 factors of a product are rounded to where the device has a matrix unit for them: nothing "
    "(float32), or 10 bits of fraction (tf32)", keyed=True, choices=("float32", "tf32"))
SYNC: Final = Setting("SYNC", bool, False, "wait after each kernel, so that a fault names the kernel")
VALIDATE: Final = Setting("VALIDATE", bool, False, "check each kernel against the interpreter (slow)")
VERIFY: Final = Setting("VERIFY", bool, False, "check each stage's grammar, and each lowering pass")
SEARCH: Final = Setting(
    "SEARCH", bool, False, "measure schedules of each kernel that is planned; keep the best on disk")
HISTORY_LIMIT: Final = Setting(
    "HISTORY_LIMIT", int, 64, "realized generations kept for gradients of unmarked leaves", minimum=0)


class Context(ContextDecorator):
    """`with Context(DEBUG=2, SYNC=1):` sets settings for a block, or as a decorator for a function."""

    def __init__(self, **settings: Any) -> None:
        self._settings = {name: _scoped(name).check(value) for name, value in settings.items()}
        self._tokens: list[Token[Mapping[str, Any]]] = []

    def __enter__(self) -> Context:
        self._tokens.append(_overrides.set({**_overrides.get(), **self._settings}))
        return self

    def __exit__(self, *exception: object) -> None:
        _overrides.reset(self._tokens.pop())


def _scoped(name: str) -> Setting[Any]:
    found = setting(name)
    if found.scoped:
        return found
    instead = "; `with device(name):` selects a device in a block" if found is DEVICE else ""
    raise ValueRangeError(op="Context", expected="a setting that can change while the program runs", got=name,
                          hint=f"set {found.variable} in the environment before the first use{instead}")


def setting(name: str) -> Setting[Any]:
    """The setting called `name`; ValueRangeError with the closest name otherwise."""
    found = _SETTINGS.get(name)
    if found is not None:
        return found
    import difflib  # for a hint alone

    close = difflib.get_close_matches(name.upper(), _SETTINGS, n=1)
    raise ValueRangeError(op="setting", expected="a declared name", got=repr(name),
                          hint=f"did you mean {close[0]}?" if close else "show_config() lists them")


def settings() -> tuple[Setting[Any], ...]:
    """Every setting declared so far: the core's, then those of the plugins imported."""
    return tuple(_SETTINGS.values())


def key() -> tuple[tuple[str, Any], ...]:
    """Names and values of the settings that belong to cache keys."""
    return tuple((s.name, s.value) for s in _SETTINGS.values() if s.keyed)


# what a captured function depends on
traced: Final = Summary(lambda: (key(), DEFAULT_FLOAT.value, DEFAULT_INT.value))
# whether command lists run one command at a time
one_by_one: Final = Summary(lambda: bool(SYNC.value or VALIDATE.value or DEBUG.value > 1))


def reload() -> None:
    """Read the environment again: what a test does after changing it."""
    for declared in _SETTINGS.values():
        declared.forget()


def undeclared() -> tuple[str, ...]:
    """PLUGGRAD_ variables that no setting declares: mistyped, or of a plugin that is not imported."""
    ours = (variable for variable in os.environ if variable.startswith(PREFIX))
    return tuple(sorted(variable for variable in ours if variable.removeprefix(PREFIX) not in _SETTINGS))


def cache_dir() -> Path:
    """The folder for what pluggrad keeps on disk; may not exist yet."""
    from pathlib import Path  # when first asked for: it takes 4 ms to import

    if CACHE_DIR.value:
        return Path(CACHE_DIR.value).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(local) / "pluggrad" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pluggrad"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pluggrad"


def cache_folder() -> Path | None:
    """The cache folder for files of a plugin's own, named "blob-..." so that the cache looks after them.

    None where nothing is kept on disk, or where there is no folder yet that only this user can write to.
    """
    path = cache_dir()
    try:
        found = path.stat()
    except OSError:
        return None
    private = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
    return path if CACHE.value and private and path.is_dir() else None


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return ",".join(value) if isinstance(value, tuple) else str(value)


def table() -> list[tuple[str, str, str, str]]:
    """(variable, value, source, what it does) of every setting, as text."""
    return [(s.variable, _shown(s.value), s.source, s.doc) for s in settings()]


def show_config() -> None:
    """Print every setting: its environment variable, value, where the value comes from, and what it does."""
    rows = table()
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        columns = [text.ljust(width) for text, width in zip(row, widths)]
        sys.stdout.write("  ".join([*columns, row[3]]).rstrip() + "\n")

"""The version of the plugin API, and how it changes: what is deprecated works on and says what replaces it.

The rule, in full in docs/plugin-api.md: within a major version nothing is taken away; what is deprecated
warns for at least two minor versions, and may go in the next major one.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from pluggrad.errors import PluggradWarning, warn

API_MAJOR: Final = 1
API_MINOR: Final = 4

F = TypeVar("F", bound=Callable[..., Any])
_MARK: Final = "__pluggrad_deprecation__"
_looked_at: Final[set[type]] = set()


@dataclass(frozen=True, slots=True)
class Deprecation:
    """A part of the plugin API that will go: its name, since which minor version, what to use instead."""

    name: str
    since: int
    replacement: str

    def __str__(self) -> str:
        return (f"{self.name} is deprecated since plugin API {API_MAJOR}.{self.since} and goes in "
                f"{API_MAJOR + 1}.0: use {self.replacement}")

    @property
    def warning(self) -> PluggradWarning:
        """For `hookspec(warn_on_impl=...)`, by which pluggy warns whoever implements a hook."""
        return PluggradWarning(str(self))


def deprecated(since: int, replacement: str) -> Callable[[F], F]:
    """Mark a method of the contract: calling it warns, and `warn_overriding` finds who overrides it."""

    def mark(function: F) -> F:
        note = Deprecation(function.__qualname__, since, replacement)

        @functools.wraps(function)
        def warning(*arguments: Any, **named: Any) -> Any:
            warn(str(note))
            return function(*arguments, **named)

        setattr(warning, _MARK, note)
        return cast(F, warning)

    return mark


def warn_overriding(made: object) -> None:
    """Warn, once a class, for each deprecated method of the contract that the class of `made` overrides."""
    plugin_class = type(made)
    if plugin_class in _looked_at:
        return
    _looked_at.add(plugin_class)
    for base in plugin_class.__mro__:
        for name, part in vars(base).items():
            note = getattr(part, _MARK, None)
            if note is not None and getattr(plugin_class, name) is not part:
                warn(f"{plugin_class.__module__}.{plugin_class.__qualname__}.{name}: {note}")

"""Whether operations keep history, per thread."""
from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import ClassVar, Final, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Mode(threading.local):
    enabled = True  # a new thread starts with gradients on


mode: Final = _Mode()


class _Set:
    """The mode of the thread that enters it, for a block or a function."""

    __slots__ = ("_before",)
    _enabled: ClassVar[bool]

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> Self:
        self._before.append(mode.enabled)
        mode.enabled = self._enabled
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mode.enabled = self._before.pop()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function` in this mode."""

        @wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_Set):
    """Results keep no history: `with no_grad():` or `@no_grad()`. Applies to the thread that enters it."""

    __slots__ = ()
    _enabled = False


class enable_grad(_Set):
    """Results keep their history, inside `no_grad` too: `with enable_grad():` or `@enable_grad()`."""

    __slots__ = ()
    _enabled = True

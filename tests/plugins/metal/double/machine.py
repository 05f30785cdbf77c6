"""What the modules of the double share: the machine, a record of calls, and the rules that calls keep.

The double stands in for Apple's Objective-C API as pyobjc shows it. It checks what Apple documents about the
order of calls, the types and sizes of arguments and the lifetimes of objects: a call that breaks a rule
raises `Misuse`, which is no error of the plugin's kind, and is kept in `MACHINE.misuses` in case that
somebody swallows it.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

Method = Callable[..., Any]


class Misuse(AssertionError):
    """A call that Apple's documentation forbids."""


class Size(NamedTuple):
    """MTLSize."""

    width: int
    height: int
    depth: int


class Range(NamedTuple):
    """NSRange."""

    location: int
    length: int


class Machine:
    """One machine with its GPUs, and how it behaves while a test runs."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As new: one Apple GPU, nothing fails."""
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []
        self.misuses: list[str] = []
        self.devices: list[Any] = []
        self.has_default = True
        self.held = False  # committed work does not begin
        self.polls = 0  # how often `status` says that work is under way before it is complete
        self.failures: list[int] = []  # error codes of the next command buffers
        self.refuses_memory = self.refuses_archives = False
        self.system = "Version 15.1 (Build 24B83)"
        self.language = (3, 1)
        self.respects_math_mode = True
        self.process = os.getpid()
        self.pools = threading.local()

    def names(self, *wanted: str) -> list[str]:
        """The selectors that were called, in order; only these."""
        return [name for _, name, _ in self.calls if not wanted or name in wanted]

    def misuse(self, text: str) -> Misuse:
        """Note a misuse, which the caller raises."""
        self.misuses.append(text)
        return Misuse(text)

    def expect(self, condition: object, text: str) -> None:
        """Raise unless the condition holds."""
        if not condition:
            raise self.misuse(text)

    @property
    def pool_depth(self) -> int:
        """Autorelease pools that are open in this thread."""
        return len(getattr(self.pools, "open", ()))


MACHINE = Machine()


class Object:
    """NSObject: what may be passed where a selector takes an object."""

    def respondsToSelector_(self, selector: str) -> bool:
        return hasattr(self, selector.replace(":", "_"))

    @classmethod
    def alloc(cls) -> Object:
        return cls.__new__(cls)

    def init(self) -> Any:
        self.__init__()  # type: ignore[misc]
        return self


class Error(Object):
    """NSError."""

    def __init__(self, domain: str, code: int, text: str) -> None:
        self._parts = domain, code, text

    def domain(self) -> str:
        return self._parts[0]

    def code(self) -> int:
        return self._parts[1]

    def localizedDescription(self) -> str:
        MACHINE.expect(MACHINE.pool_depth, "localizedDescription is autoreleased, and no pool is open")
        return self._parts[2]


def _is_unsigned(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 64


def _is_object(value: object) -> bool:
    return value is None or isinstance(value, (Object, str, list))


def _is_bytes(value: object) -> bool:
    try:
        return memoryview(value).c_contiguous  # type: ignore[arg-type]
    except TypeError:
        return False


# by the letters of Objective-C's type encodings
_CHECKS: dict[str, Callable[[object], bool]] = {
    "Q": _is_unsigned, "q": lambda value: type(value) is int, "@": _is_object,
    "Z": lambda value: isinstance(value, bool), "*": _is_bytes, "C": lambda value: value in range(256),
    "S": lambda value: isinstance(value, Size) and all(map(_is_unsigned, value)),
    "R": lambda value: isinstance(value, Range) and all(map(_is_unsigned, value)),
    "o": lambda value: value is None,  # where the selector returns something, pyobjc takes None
}


def selector(encodings: str = "", autoreleased: bool = False) -> Callable[[Method], Method]:
    """A method that Objective-C has: its arguments, a letter for each, are checked, and the call is recorded.

    S is an MTLSize, R an NSRange, * bytes, o a place for a result; others as Objective-C has them. The result
    of one that is `autoreleased` lives in the pool of the thread, and leaks where there is none.
    """

    def wrap(method: Method) -> Method:
        name = method.__name__

        @functools.wraps(method)
        def call(self: Any, *arguments: Any) -> Any:
            kind = type(self).__name__
            MACHINE.expect(os.getpid() == MACHINE.process, f"{kind}.{name} in a forked child")
            MACHINE.expect(len(arguments) == len(encodings) == name.count("_"),
                           f"{kind}.{name} takes {len(encodings)} arguments, not {len(arguments)}")
            for number, (encoding, value) in enumerate(zip(encodings, arguments)):
                MACHINE.expect(_CHECKS[encoding](value),
                               f"{kind}.{name}: argument {number} is {value!r}, which is no {encoding!r}")
            if autoreleased:
                MACHINE.expect(MACHINE.pool_depth, f"{kind}.{name} is autoreleased, and no pool is open")
            MACHINE.calls.append((kind, name, arguments))
            return method(self, *arguments)

        return call

    return wrap

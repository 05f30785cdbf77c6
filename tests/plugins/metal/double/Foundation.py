"""The double of pyobjc's `Foundation`, as far as the plugin uses it."""

from __future__ import annotations

from machine import MACHINE, Object, Range, selector


def NSMakeRange(location: int, length: int) -> Range:
    return Range(location, length)


class NSURL(Object):
    """Of a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def fileURLWithPath_(cls, path: str) -> NSURL:
        MACHINE.expect(isinstance(path, str), f"fileURLWithPath: takes a string, not {path!r}")
        MACHINE.expect(MACHINE.pool_depth, "fileURLWithPath: is autoreleased, and no pool is open")
        return cls(path)


class NSProcessInfo(Object):
    """Of this process."""

    @classmethod
    def processInfo(cls) -> NSProcessInfo:
        return cls()

    @selector(autoreleased=True)
    def operatingSystemVersionString(self) -> str:
        return MACHINE.system

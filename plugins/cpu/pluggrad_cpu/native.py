"""The plugin's own native code: binding, copy and fill (commands.ll); on Linux the thread team (team.ll)."""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Final

import llvmlite.binding as llvm

from pluggrad_cpu.llvm import baseline, target_machine
from pluggrad_cpu.loader import Library, loader
from pluggrad_cpu.target import machine

KERNEL: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)

# In ns. A thread spins before it sleeps: between lists at least as long as waking costs (`idle`), which
# covers the gap between calls of a short loop, and at most `linger`; while a list is under way (`held`)
# longer than the waves its caller runs alone.
# Other work wants a worker's core if the worker is off it for longer than `away`, which no wakeup takes on a
# core that is free. It then keeps away if it has no more than `brief` to do: for as long as the system lets
# another run (`shortest`), up to what loses little where such a try holds the caller up once (`longest`).
_TIMES_NS: Final = {"idle": 50_000, "linger": 200_000, "held": 200_000, "away": 200_000, "brief": 1_000_000,
                    "shortest": 4_000_000, "longest": 128_000_000}
# machine -> (number of the futex system call, instruction that makes a spinning core yield to its sibling)
_FUTEX: Final = {"x86_64": ("202", "pause"), "aarch64": ("98", "isb")}


def team_supported() -> bool:
    """Whether the native team knows this system."""
    return sys.platform == "linux" and machine() in _FUTEX


def _text(name: str) -> str:
    return (resources.files("pluggrad_cpu") / name).read_text(encoding="utf-8")


def _source() -> str:
    if not team_supported():
        return _text("commands.ll")
    futex, pause = _FUTEX[machine()]
    team = _text("team.ll").replace("{{futex}}", futex).replace("{{pause}}", pause)
    for name, nanoseconds in _TIMES_NS.items():
        team = team.replace("{{" + name + "}}", str(nanoseconds))
    return _text("commands.ll") + team


def _compile(source: str) -> bytes:
    """Unoptimized: 3 ms instead of 15, and what these functions cost is memory barriers and system calls."""
    module = llvm.parse_assembly(source)
    module.verify()
    return bytes(target_machine(baseline(), optimize=0).emit_object(module))


class Runtime:
    """Addresses of the kernels, and the calls that teams make."""

    def __init__(self) -> None:
        self._library: Library = loader().load(_compile(_source()))
        self.copy, self.fill = self._library.address("copy"), self._library.address("fill")
        self.bind = self._function("bind", None, 1)
        if team_supported():
            self.start = self._function("start", ctypes.c_int32, 2)
            self.resume = self._function("resume", ctypes.c_int32, 1)
            self.serve = self._function("serve", None, 1)
            self.stop = self._function("stop", None, 1)

    def _function(self, name: str, result: type[ctypes.c_int32] | None, pointers: int) -> Callable[..., int]:
        kind = ctypes.CFUNCTYPE(result, *[ctypes.c_void_p] * pointers)
        call: Callable[..., int] = kind(self._library.address(name))
        return call


@cache
def runtime() -> Runtime:
    """The process's native code, compiled on first use."""
    return Runtime()

"""Object code becomes callable: one LLVM linker for the process, each distinct binary linked once."""
from __future__ import annotations

import itertools
import os
import threading
from functools import cache
from typing import Any, Final
from weakref import WeakValueDictionary

import llvmlite.binding as llvm

from pluggrad.plugin_api import KernelFault
from pluggrad_cpu.llvm import baseline, target_machine


class Library:
    """A linked binary. Its code stays mapped while this lives: whoever keeps an address keeps the library."""

    def __init__(self, linker: Any, name: str, tracker: Any) -> None:
        self._linker, self._name = linker, name
        self._trackers: dict[str, Any] = {"": tracker}  # dropping any of them unmaps the whole library

    def address(self, symbol: str) -> int:
        """Where a function starts; KernelFault if there is none, or it needs what the process lacks."""
        if symbol not in self._trackers:
            try:
                self._trackers[symbol] = self._linker.lookup(self._name, symbol)
            except RuntimeError as error:
                raise KernelFault(f"kernel {symbol!r} cannot be linked: {error}. LLVM says on stderr what "
                                  "this process lacks") from error
        return int(self._trackers[symbol][symbol])


class Loader:
    """Links binaries; two loads of equal bytes share one library for as long as somebody uses it."""

    def __init__(self) -> None:
        self._linker = llvm.create_lljit_compiler(target_machine(baseline()))
        self._libraries: WeakValueDictionary[bytes, Library] = WeakValueDictionary()
        self._serial = itertools.count()  # LLVM never forgets a library's name
        self.lock = threading.Lock()

    def load(self, binary: bytes) -> Library:
        """The library of an object file; KernelFault if these bytes are not one."""
        with self.lock:
            library = self._libraries.get(binary)
            if library is None:
                library = self._libraries[binary] = self._link(binary)
        return library

    def _link(self, binary: bytes) -> Library:
        name = f"kernels{next(self._serial)}"
        builder = llvm.JITLibraryBuilder().add_object_img(binary).add_current_process()
        try:
            return Library(self._linker, name, builder.link(self._linker, name))
        except RuntimeError as error:
            raise KernelFault(f"a binary of {len(binary)} bytes cannot be loaded: {error}") from error


_LOADERS: Final[list[Loader]] = []


@cache
def loader() -> Loader:
    """The process's loader."""
    _LOADERS.append(Loader())
    return _LOADERS[0]


def _renew_lock() -> None:
    for made in _LOADERS:  # another thread may have held it at the fork
        made.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

"""Libraries: Metal source as the driver compiles it. Those made last are kept: what is compiled is loaded."""
from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Final

import Metal
import objc

from pluggrad_metal import driver
from pluggrad_metal.binaries import Library, read, refused

_KEPT: Final = 32

_lock = threading.Lock()
_libraries: OrderedDict[tuple[int, bytes], Any] = OrderedDict()  # by device and binary


def check(binary: bytes, arch: str) -> None:
    """CompileError if a device of this process is of that `arch` and does not take the binary's source."""
    for device in driver.devices():
        if driver.describe(device).arch() == arch:
            library(device, binary)
            return


def library(device: Any, binary: bytes) -> Any:
    """The library of a binary; CompileError if the driver refuses it."""
    key = (int(device.registryID()), binary)
    with _lock, objc.autorelease_pool():
        found = _libraries.get(key)
        if found is None:
            found = _libraries[key] = compiled(device, read(binary))
        _libraries.move_to_end(key)
        while len(_libraries) > _KEPT:
            _libraries.popitem(last=False)
        return found


def compiled(device: Any, text: Library) -> Any:
    """A library of source text; the caller has an autorelease pool."""
    driver.fork_guard.check()
    options = Metal.MTLCompileOptions.alloc().init()
    major, minor = text.language
    options.setLanguageVersion_(major << 16 | minor)
    if options.respondsToSelector_("setMathMode:"):
        options.setMathMode_(Metal.MTLMathModeSafe)
    else:  # before macOS 15
        options.setFastMathEnabled_(False)
    made, error = device.newLibraryWithSource_options_error_(text.source, options, None)
    if made is None:  # warnings are an error beside a library
        raise refused(text.source, error_text(error))
    return made


def error_text(error: Any) -> str:
    """What an NSError says; the caller has an autorelease pool."""
    return "no reason given" if error is None else str(error.localizedDescription())

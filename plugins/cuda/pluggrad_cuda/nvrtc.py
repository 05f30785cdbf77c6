"""NVRTC, NVIDIA's compiler as a library, by ctypes: from its wheel, else from a toolkit. Needs no driver."""
from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from pluggrad.plugin_api import CompileError, DeviceUnavailable
from pluggrad_cuda.toolkit import WINDOWS, toolkits, wheels

FIX: Final = "pip install 'pluggrad-cuda[nvrtc]', or install the CUDA toolkit and set CUDA_HOME to its folder"
_OLDEST: Final = (12, 0)
# by which a library is found, and which has to be loaded before it
_NAMES: Final = ("nvrtc64_*.dll", "nvrtc-builtins64_*.dll") if WINDOWS else (
    "libnvrtc.so.*", "libnvrtc-builtins.so.*")

_FILE: Final = "kernels.cu"  # in logs
_Chars = ctypes.POINTER(ctypes.c_char_p)


class Nvrtc:
    """The library, loaded. Threads may compile side by side: each call has a program of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with suppress(OSError, IndexError):  # which the library looks for in the system's folders only
            ctypes.CDLL(str(sorted(path.parent.glob(_NAMES[1]))[-1]))
        self._library = ctypes.CDLL(str(path))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
        self.version = (major.value, minor.value)

    def __str__(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def capabilities(self) -> frozenset[int]:
        """The compute capabilities, times ten, that it makes code for."""
        count = ctypes.c_int()
        status = self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
        self._check(status, "nvrtcGetNumSupportedArchs")
        found = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(found), "nvrtcGetSupportedArchs")
        return frozenset(found)

    def compile(self, source: str, options: Sequence[str]) -> tuple[bytes, str]:
        """Machine code of a source, and the log; CompileError with both."""
        program = ctypes.c_void_p()
        status = self._library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), _FILE.encode(), 0, None, None)
        self._check(status, "nvrtcCreateProgram")
        try:
            encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
            status = self._library.nvrtcCompileProgram(program, len(options), ctypes.cast(encoded, _Chars))
            log = self._read("ProgramLog", program).rstrip(b"\0").decode(errors="replace").strip()
            if status:
                raise _refused(source, log or self._message(status))
            return self._read("CUBIN", program), log
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), what)
        found = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, found), what)
        return found.raw

    def _check(self, status: int, call: str) -> None:
        if status:
            raise CompileError(f"{call} of {self.path.name} failed: {self._message(status)}")

    def _message(self, status: int) -> str:
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return str((self._library.nvrtcGetErrorString(status) or b"unknown").decode())


def _refused(source: str, log: str) -> CompileError:
    first = next((line for line in log.splitlines() if "error" in line.lower()), "no reason given")
    numbered = "\n".join(f"{number:4} {line}" for number, line in enumerate(source.splitlines(), 1))
    message = f"NVRTC refused a kernel: {first.strip()}"
    return CompileError(message, source=source, log=f"{log}\n\n{numbered}\n")


@cache
def library() -> Nvrtc:
    """The first library that loads; DeviceUnavailable if there is none, or none that is new enough."""
    tried: list[str] = []
    for path in candidates():
        try:
            found = Nvrtc(path)
        except OSError as error:
            tried.append(f"{path}: {error}")
            continue
        if found.version >= _OLDEST:
            return found
        tried.append(f"{path}: version {found}")
    got = "; ".join(tried) or "no such library in Python's packages nor in a CUDA toolkit"
    expected = f"NVRTC {'.'.join(map(str, _OLDEST))} or newer"
    raise DeviceUnavailable(op="cuda", expected=expected, got=got, hint=FIX)


def candidates() -> Iterator[Path]:
    """Where the library may be: its wheel, the toolkit that the environment names, then the usual one."""
    for folder in folders():
        yield from sorted(folder.glob(_NAMES[0]), reverse=True)


def folders() -> Iterator[Path]:
    """Folders of libraries, in the order in which they are looked through."""
    part = "bin" if WINDOWS else "lib"
    yield from (folder / part for folder in wheels("cu[0-9]*", "cuda_nvrtc"))  # the second: of CUDA 12
    for toolkit in toolkits():
        yield from (toolkit / part for part in ("lib64", "lib", "bin", "bin/x64"))

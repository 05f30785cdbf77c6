"""Kernels of a GPU's language as functions of shared libraries, by the C++ compiler that `ziglang` brings."""
from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.shims.languages import Language, merged

_HERE: Final = Path(__file__).parent
# an index beyond an array traps; products and sums fuse where they are one expression, as they do on GPUs
_OPTIONS: Final = (
    "-x", "c++", "-std=c++17", "-O0", "-fPIC", "-w", "-nostdinc++", "-fno-exceptions", "-fno-rtti",
    "-fno-sanitize=all", "-fsanitize=bounds", "-fsanitize-trap=bounds", "-U_FORTIFY_SOURCE",
    "-fno-stack-protector", "-fno-strict-aliasing", "-fno-threadsafe-statics",
    "-Xclang", "-ffloat16-excess-precision=none")
_FEW: Final = 160  # kernels of a library: more take as long each

Function = Callable[..., bytes | None]


def digest(source: str) -> str:
    """What a kernel's source is known by."""
    return hashlib.sha256(source.encode()).hexdigest()[:24]


def compile_library(language: Language, sources: Sequence[str], path: Path) -> None:
    """One shared library of kernels; CalledProcessError, with what the compiler says, if it refuses them.

    zig is asked for its compiler and its linker apart: `zig c++` would first build a runtime library.
    """
    code, made = path.with_suffix(".cpp"), path.with_suffix(".o")
    code.write_text(merged(language, sources), encoding="utf-8")
    cache = dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), str(path.parent / "zig"))
    _zig(["cc", "-c", *_OPTIONS, f"-I{_HERE}", str(code), "-o", str(made)], cache)
    _zig(["ld.lld", "-shared", str(made), "-o", str(path)], cache)
    made.unlink()


def _zig(arguments: Sequence[str], variables: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-m", "ziglang", *arguments], env={**os.environ, **variables},
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"zig {arguments[0]} failed:\n{done.stderr[:6000]}")


class Libraries:
    """Kernels by their source, in libraries of a folder; one that is in none is compiled by itself."""

    def __init__(self, language: Language, folder: Path) -> None:
        self.language, self.folder = language, folder
        self._functions: dict[str, Function] = {}
        self.alone = 0

    def add(self, sources: Sequence[str]) -> None:
        """Compile kernels, a library for every few."""
        for start in range(0, len(sources), _FEW):
            few = sources[start:start + _FEW]
            path = self.folder / f"{digest(''.join(few))}.so"
            if not path.exists():
                compile_library(self.language, few, path)
            library = ctypes.CDLL(str(path))
            for source in few:
                self._functions[digest(source)] = _function(library, self.language, source)

    def function(self, source: str) -> Function:
        """What launches a kernel: `launch(void **given, grid, group, bytes, order)`, which gives an error."""
        key = digest(source)
        if key not in self._functions:
            self.alone += 1
            self.add([source])
        return self._functions[key]


def _function(library: ctypes.CDLL, language: Language, source: str) -> Function:
    match = language.kernel.search(source)
    assert match is not None, f"no kernel in\n{source}"
    function: Any = library[f"launch_{match['name']}"]
    function.restype = ctypes.c_char_p
    function.argtypes = [ctypes.c_void_p, *[ctypes.c_uint] * 4]
    return function  # type: ignore[no-any-return]

"""C sources compiled by the system's compiler, called as kernels."""
from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pluggrad.dtypes import Scalar
from pluggrad.lower.program import Program
from tests.program_cases import value_bits

COMPILER = shutil.which("cc")
_FLAGS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-unused-variable",
          "-shared", "-fPIC")


def compile_c(sources: Sequence[str], folder: Path) -> ctypes.CDLL:
    """One library of all kernels; functions that several need are there once."""
    blocks = dict.fromkeys(block.strip("\n") for source in sources for block in source.split("\n\n"))
    source, library = folder / "kernels.c", folder / "kernels.so"
    source.write_text("\n\n".join(blocks) + "\n")
    assert COMPILER is not None
    subprocess.run([COMPILER, *_FLAGS, "-o", library, source, "-lm"], check=True)
    return ctypes.CDLL(str(library))


def compiles(source: str) -> bool:
    """Whether there is a compiler, and it takes this."""
    command = [COMPILER or "", "-std=c11", "-fsyntax-only", "-x", "c", "-"]
    return COMPILER is not None and not subprocess.run(command, input=source, capture_output=True,
                                                       text=True, check=False).returncode


def call(library: ctypes.CDLL, program: Program, arrays: Sequence[np.ndarray], values: Sequence[Scalar] = (),
         tasks: tuple[int, int] | None = None) -> None:
    """Run tasks lo <= task < hi (all of them) on arrays, in place."""
    function = library[program.name]
    function.restype, function.argtypes = None, [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 2
    pointers = (ctypes.c_void_p * max(1, len(arrays)))(*[array.ctypes.data for array in arrays])
    slots = np.zeros((max(1, len(values)), 8), np.uint8)
    for slot, value, dtype in zip(slots, values, program.values):
        slot[:dtype.itemsize] = value_bits(value, dtype).view(np.uint8)
    function(ctypes.addressof(pointers), slots.ctypes.data, *(tasks or (0, program.tasks)))

"""nvdisasm, NVIDIA's disassembler: from its wheel, a toolkit or the PATH. Needs no driver."""
from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pluggrad.plugin_api import CompileError
from pluggrad_cuda.toolkit import WINDOWS, toolkits, wheels

FIX: Final = "pip install 'pluggrad-cuda[nvdisasm]', or install the CUDA toolkit and set CUDA_HOME"
_PROGRAM: Final = "nvdisasm.exe" if WINDOWS else "nvdisasm"
_LIMIT_S: Final = 60.0


def disassembled(code: bytes) -> str:
    """Machine code (a CUBIN) as text; CompileError where there is no nvdisasm, or it refuses the code."""
    program = next(candidates(), None)
    if program is None:
        raise CompileError(f"machine code is read by nvdisasm, which is not here    try: {FIX}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernels.cubin")
        file.write_bytes(code)
        try:
            done = subprocess.run([program, "--print-code", file], capture_output=True, text=True,
                                  timeout=_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompileError(f"{program} does not run: {error}    try: {FIX}") from error
    if done.returncode:
        raise CompileError(f"{program} refused machine code: {done.stderr.strip()}", log=done.stderr)
    return done.stdout


def candidates() -> Iterator[Path]:
    """The programs of that name: its wheel's, a toolkit's, that on the PATH."""
    for folder in (*wheels("cu[0-9]*"), *toolkits()):
        program = folder / "bin" / _PROGRAM
        if program.is_file():
            yield program
    found = shutil.which(_PROGRAM)
    if found is not None:
        yield Path(found)

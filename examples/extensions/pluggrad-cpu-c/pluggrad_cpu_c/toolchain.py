"""A program to C, and C to an object file, which the cpu device links into the process."""
from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from pluggrad.plugin_api import CompileError, CVectorRenderer, Program, Target, Toolchain

FLAGS: Final = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-fno-math-errno", "-c", "-x", "c", "-")


class CToolchain(Toolchain):
    """Makes code for this machine's processor alone: `-march=native`."""

    def __init__(self, target: Target, compiler: str) -> None:
        self.renderer = CVectorRenderer(target.capabilities.arithmetic)
        self.command = (compiler, *FLAGS)
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
        self.cache_key = f"{' '.join(self.command)}, {version}"

    def render(self, program: Program) -> str:
        return self.renderer.render(program)

    def compile(self, source: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            binary = Path(folder, "kernel.o")
            result = subprocess.run([*self.command, "-o", str(binary)], input=source, capture_output=True,
                                    text=True, check=False)
            if result.returncode:
                raise CompileError(f"{self.command[0]} refused a kernel", source=source, log=result.stderr)
            return binary.read_bytes()

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        with ThreadPoolExecutor() as pool:  # each is a process of its own
            return list(pool.map(self.compile, sources))

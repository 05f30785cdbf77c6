"""Toolchain of an NVIDIA GPU: CUDA C++ in, machine code (CUBIN) for its architecture out. Opens no device."""
from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Final

from pluggrad.plugin_api import CompileError, Program, Target, Toolchain, merged, seal, unseal
from pluggrad_cuda import nvrtc
from pluggrad_cuda.architecture import Architecture
from pluggrad_cuda.nvdisasm import disassembled
from pluggrad_cuda.resources import Resources, parse

_REVISION: Final = 1  # raise when other code is made of the same text
# as NVRTC has it, division and square root are rounded as IEEE 754 says, small numbers are kept, and a
# product and a sum fuse
_OPTIONS: Final = ("--std=c++17", "--ptxas-options=-v")
_LEAST_TEXT: Final = 4 << 10  # of a program's kernels: it has a cost of its own, which this much is worth


class CudaToolchain(Toolchain):
    """Renders and compiles for `target.arch`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.architecture = Architecture.parse(target.arch)
        self.options = (f"--gpu-architecture={self.architecture}", *_OPTIONS)

    @cached_property
    def cache_key(self) -> str:  # type: ignore[override]  # rendering needs no compiler: not before it is asked
        """The compiler and its options."""
        return f"NVRTC {nvrtc.library()}, revision {_REVISION}, {' '.join(self.options)}"

    def render(self, program: Program) -> str:
        from pluggrad_cuda.render import CudaRenderer  # with the first kernel that is not on disk

        arithmetic = self.target.capabilities.arithmetic
        return CudaRenderer(arithmetic, self.architecture.capability).render(program)

    def compile(self, source: str) -> bytes:
        return seal(self._made(source)[0])

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        """A binary for the kernels of each program, once for each; programs are compiled side by side."""
        programs = _programs(sources, _cores())
        with ThreadPoolExecutor(max(1, len(programs))) as pool:
            made = list(pool.map(lambda numbers: self._together([sources[i] for i in numbers]), programs))
        binaries = {i: binary for numbers, group in zip(programs, made, strict=True)
                    for i, binary in zip(numbers, group, strict=True)}
        return [binaries[i] for i in range(len(sources))]

    def disassemble(self, binary: bytes) -> str:
        return disassembled(unseal(binary))

    def resources(self, source: str) -> dict[str, Resources]:
        """What each kernel of a source takes of a multiprocessor, as the assembler says, by its name."""
        return parse(self._made(source)[1])

    def _together(self, sources: Sequence[str]) -> list[bytes]:
        try:
            return [self.compile(merged(sources))] * len(sources)
        except CompileError:
            return [self.compile(source) for source in sources]  # the error is then about one kernel

    def _made(self, source: str) -> tuple[bytes, str]:
        """CUBIN and log."""
        library = nvrtc.library()
        if self.architecture.capability not in library.capabilities:
            made = ", ".join(f"sm_{capability}" for capability in sorted(library.capabilities))
            raise CompileError(f"NVRTC {library} makes code for {made}; not for {self.architecture}. Another "
                               f"version may: {nvrtc.FIX}", source=source)
        return library.compile(source, self.options)


def _programs(sources: Sequence[str], most: int) -> list[list[int]]:
    """Numbers of the sources of each program: at most `most`, of about the same length, none too small."""
    kernels = [len(source) - source.find("__global__") for source in sources]  # what stands before is shared
    count = max(1, min(most, sum(kernels) // _LEAST_TEXT, len(sources)))
    programs: list[list[int]] = [[] for _ in range(count)]
    lengths = [0] * count
    for i in sorted(range(len(sources)), key=lambda i: -kernels[i]):  # each to the shortest so far
        shortest = lengths.index(min(lengths))
        programs[shortest].append(i)
        lengths[shortest] += kernels[i]
    return [sorted(numbers) for numbers in programs if numbers]


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

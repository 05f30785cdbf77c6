"""Toolchain of an NVIDIA GPU: CUDA C++ in, machine code (CUBIN) for its architecture out. Opens no device."""
from __future__ import annotations

from typing import Final

from pluggrad.plugin_api import CompileError, Program, Target, Toolchain, seal
from pluggrad_cuda import nvrtc
from pluggrad_cuda.architecture import Architecture

_REVISION: Final = 1  # raise when other code is made of the same text
# the defaults of NVRTC save the dialect: division and square root are rounded as IEEE 754 says, small numbers
# are kept, and a product and a sum fuse
_OPTIONS: Final = ("--std=c++17", "--restrict", "--ptxas-options=-v")


class CudaToolchain(Toolchain):
    """Renders and compiles for `target.arch`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.architecture = Architecture.parse(target.arch)
        self.options = (f"--gpu-architecture={self.architecture}", *_OPTIONS)
        self.cache_key = f"NVRTC {nvrtc.library()}, revision {_REVISION}, {' '.join(self.options)}"

    def render(self, program: Program) -> str:
        from pluggrad_cuda.render import CudaRenderer

        return CudaRenderer(self.target.capabilities.arithmetic, self.architecture.capability).render(program)

    def compile(self, source: str) -> bytes:
        return seal(self.machine_code(source)[0])

    def machine_code(self, source: str) -> tuple[bytes, str]:
        """CUBIN, and the compiler's log, which says what registers and memory each kernel takes."""
        library = nvrtc.library()
        if self.architecture.capability not in library.capabilities:
            made = ", ".join(f"sm_{capability}" for capability in sorted(library.capabilities))
            raise CompileError(f"NVRTC {library} makes code for {made}; not for {self.architecture}. Another "
                               f"version may: {nvrtc.FIX}", source=source)
        return library.compile(source, self.options)

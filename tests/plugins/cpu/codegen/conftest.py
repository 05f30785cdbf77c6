"""Programs written by hand, compiled, and run on NumPy arrays without the rest of the plugin."""
from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from pluggrad.dtypes import Scalar
from pluggrad.lower.program import Program
from pluggrad.target import Capabilities, Target
from pluggrad_cpu.compiler import LLVMToolchain
from pluggrad_cpu.llvm import host_triple, target_machine
from tests.program_builder import ProgramBuilder

HOST = f"{host_triple()}|{llvm.get_host_cpu_name()}|{llvm.get_host_cpu_features().flatten()}"
_names = itertools.count()


def toolchain_for(arch: str) -> LLVMToolchain:
    return LLVMToolchain(Target(arch, Capabilities(dtypes=frozenset(), arithmetic=frozenset())))


class Runner:
    """Compiles programs for the host (or another `arch` that it can run) and calls them."""

    def __init__(self) -> None:
        self.jit = llvm.create_lljit_compiler(target_machine(HOST))
        self.toolchains: dict[str, LLVMToolchain] = {}
        self.loaded: list[Any] = []

    def compile(self, program: Program, arch: str = HOST) -> Callable[..., None]:
        toolchain = self.toolchains.setdefault(arch, toolchain_for(arch))
        return self.link(toolchain.compile(toolchain.render(program)), program)

    def compile_many(self, programs: Sequence[Program], arch: str = HOST) -> list[Callable[..., None]]:
        """All in one module, which is quicker than one after another."""
        toolchain = self.toolchains.setdefault(arch, toolchain_for(arch))
        binaries = toolchain.compile_many([toolchain.render(program) for program in programs])
        return [self.link(binary, program) for binary, program in zip(binaries, programs)]

    def link(self, binary: bytes, program: Program) -> Callable[..., None]:
        library = llvm.JITLibraryBuilder().add_object_img(binary).export_symbol(program.name)
        self.loaded.append(library.link(self.jit, f"library{next(_names)}"))
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
            self.loaded[-1][program.name])

        def call(*arrays: np.ndarray, values: Sequence[Scalar] = (),
                 tasks: tuple[int, int] | None = None) -> None:
            for array, buffer in zip(arrays, program.buffers, strict=True):
                assert array.dtype == buffer.dtype.numpy
                assert array.size == buffer.size
            pointers = (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])
            slots = np.zeros(max(1, len(values)), np.int64)
            for i, (value, dtype) in enumerate(zip(values, program.values, strict=True)):
                slots[i : i + 1].view(dtype.numpy)[0] = value
            lo, hi = tasks or (0, program.tasks)
            function(ctypes.addressof(pointers), slots.ctypes.data, lo, hi)

        return call

    def __call__(self, program: Program, *arrays: np.ndarray, arch: str = HOST, **options: Any) -> None:
        self.compile(program, arch)(*arrays, **options)


@pytest.fixture(scope="session")
def run() -> Runner:
    return Runner()


@pytest.fixture
def program() -> type[ProgramBuilder]:
    return ProgramBuilder

"""Toolchain of the CPU: LLVM IR in, object code out, for any architecture that LLVM knows."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import llvmlite.binding as llvm

from pluggrad.plugin_api import CompileError, Target, Toolchain
from pluggrad_cpu.emit import Machine
from pluggrad_cpu.llvm import target_machine, version

if TYPE_CHECKING:
    from pluggrad.plugin_api import Program

_REVISION: Final = 1  # raise when other code is made of the same text
# features, and the CPU names that stand for a level and imply them
_WIDE_VECTORS: Final = frozenset({"+avx512f", "x86-64-v4"})
_HALF: Final = frozenset({"+f16c", "x86-64-v3", "x86-64-v4"})
_ROUNDING: Final = frozenset({"+sse4.1", "x86-64-v2", "x86-64-v3", "x86-64-v4"})


class LLVMToolchain(Toolchain):
    """Renders and compiles for `target.arch`, which is `triple|cpu|features`."""

    def __init__(self, target: Target) -> None:
        self.arch = target.arch
        self.cache_key = f"{version()}, revision {_REVISION}, {target.arch}"
        triple, cpu, features = target.arch.split("|")
        present = {cpu, *features.split(",")}
        arm = triple.startswith(("aarch64", "arm64"))
        self.machine = Machine(half=arm or bool(present & _HALF), rounding=arm or bool(present & _ROUNDING),
                               wide_vectors=bool(present & _WIDE_VECTORS))
        self._llvm: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_llvm": None}  # a handle into LLVM stays in its process

    def render(self, program: Program) -> str:
        from pluggrad_cpu.render import render  # with the first kernel that is not on disk

        return render(program, self.machine)

    def compile(self, source: str) -> bytes:
        module = self._optimized(source)
        return bytes(self._target_machine().emit_object(module))

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        """One object that holds all the kernels, once for each source: every module has a cost of its own."""
        if not sources:
            return []
        return [self.compile(self.merged(sources))] * len(sources)

    def merged(self, sources: Sequence[str]) -> str:
        """One module: a function that several kernels use is the same block of text in each."""
        blocks = dict.fromkeys(block.strip("\n") for source in sources for block in source.split("\n\n"))
        return "\n\n".join(blocks) + "\n"

    def assembly(self, source: str) -> str:
        """The machine code of a source as text."""
        return str(self._target_machine().emit_assembly(self._optimized(source)))

    def _target_machine(self) -> Any:
        if self._llvm is None:
            self._llvm = target_machine(self.arch)
        return self._llvm

    def _optimized(self, source: str) -> Any:
        machine = self._target_machine()
        try:
            module = llvm.parse_assembly(source)
            module.triple, module.data_layout = machine.triple, str(machine.target_data)
            module.verify()  # parsing does not: a wrong phi would compile, and hang
        except RuntimeError as error:
            raise CompileError("LLVM refused a kernel", source=source, log=str(error)) from error
        _optimize(module, machine)
        return module


def _optimize(module: Any, machine: Any) -> None:
    """Enough for text in SSA form with explicit vectors: code as fast as at -O3 in a third of the time."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, builder)

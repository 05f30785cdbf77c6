"""Toolchain of the CPU: LLVM IR in, object code out, for any architecture that LLVM knows."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import llvmlite.binding as llvm

from pluggrad.plugin_api import CompileError, Target, Toolchain
from pluggrad_cpu.emit import Machine
from pluggrad_cpu.llvm import emit_object, own_machine, version
from pluggrad_cpu.memory import give_back
from pluggrad_cpu.target import cores

if TYPE_CHECKING:
    from pluggrad.plugin_api import Program

_REVISION: Final = 1  # raise when other code is made of the same text
_LEAST_TEXT: Final = 8 << 10  # of a module: each costs 4 ms by itself, which this much takes about as long as
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

    def render(self, program: Program) -> str:
        from pluggrad_cpu.render import render  # with the first kernel that is not on disk

        return render(program, self.machine)

    def compile(self, source: str) -> bytes:
        with self._optimized(source) as module:
            return emit_object(own_machine(self.arch), module)

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        """One object for the kernels of each module; modules are compiled side by side."""
        modules = _modules(sources, cores())
        texts = [self.merged([sources[i] for i in numbers]) for numbers in modules]
        if len(texts) < 2:
            made = [self.compile(text) for text in texts]
        else:
            with ThreadPoolExecutor(len(texts)) as pool:
                made = list(pool.map(self.compile, texts))
            give_back()
        binaries = {i: binary for numbers, binary in zip(modules, made, strict=True) for i in numbers}
        return [binaries[i] for i in range(len(sources))]

    def merged(self, sources: Sequence[str]) -> str:
        """One module: a function that several kernels use is the same block of text in each."""
        blocks = dict.fromkeys(block.strip("\n") for source in sources for block in source.split("\n\n"))
        return "\n\n".join(blocks) + "\n"

    def assembly(self, source: str) -> str:
        """The machine code of a source as text."""
        with self._optimized(source) as module:
            return str(own_machine(self.arch).emit_assembly(module))

    @contextmanager
    def _optimized(self, source: str) -> Iterator[Any]:
        """The module, in a context of its own, which has to outlive it: neither is left to the collector."""
        machine = own_machine(self.arch)
        with llvm.create_context() as context:
            try:
                with llvm.parse_assembly(source, context) as module:
                    module.triple, module.data_layout = machine.triple, str(machine.target_data)
                    module.verify()  # parsing does not: a wrong phi would compile, and hang
                    _optimize(module, machine)
                    yield module
            except RuntimeError as error:
                raise CompileError("LLVM refused a kernel", source=source, log=str(error)) from error


def _modules(sources: Sequence[str], most: int) -> list[list[int]]:
    """Numbers of the sources of each module: at most `most`, of about the same length, none too small."""
    count = max(1, min(most, sum(map(len, sources)) // _LEAST_TEXT, len(sources)))
    modules: list[list[int]] = [[] for _ in range(count)]
    lengths = [0] * count
    for i in sorted(range(len(sources)), key=lambda i: -len(sources[i])):  # each to the shortest so far
        shortest = lengths.index(min(lengths))
        modules[shortest].append(i)
        lengths[shortest] += len(sources[i])
    return [sorted(numbers) for numbers in modules if numbers]


def _optimize(module: Any, machine: Any) -> None:
    """Enough for text in SSA form with explicit vectors: code as fast as at -O3 in a third of the time."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, builder)

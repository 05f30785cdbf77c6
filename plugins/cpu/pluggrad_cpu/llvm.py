"""What the compiler and the loader share of LLVM: its set-up, and target machines by architecture string.

An architecture is `triple|cpu|features`, in LLVM's words; it is all that code generation depends on.
"""
from __future__ import annotations

from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm


def version() -> str:
    """llvmlite's and LLVM's versions: binaries of one may differ from those of another."""
    return f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"


@cache
def _initialize(native: bool) -> None:
    if native:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


@cache
def host_triple() -> str:
    """The triple of this process."""
    return str(llvm.get_process_triple())


def target_machine(arch: str) -> Any:
    """A new LLVM target machine, at the highest optimization level (about 1 ms: keep it). Any architecture will do."""
    triple, cpu, features = arch.split("|")
    _initialize(native=triple == host_triple())
    return llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=3, jit=True)

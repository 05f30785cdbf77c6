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


def baseline() -> str:
    """The architecture that every machine of this process's kind has."""
    return f"{host_triple()}||"


def target_machine(arch: str, optimize: int = 3) -> Any:
    """A new LLVM target machine (about 1 ms: keep it). Any architecture will do, not only the host's.

    optimize: 0 generates code five times as fast as 3, for text whose speed does not matter.
    """
    triple, cpu, features = arch.split("|")
    _initialize(native=triple == host_triple())
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(cpu=cpu, features=features, opt=optimize, jit=True)

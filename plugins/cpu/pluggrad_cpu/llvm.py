"""What the compiler and the loader share of LLVM: its set-up, and target machines by architecture string.

An architecture is `triple|cpu|features`, in LLVM's words; it is all that code generation depends on.
"""
from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import llvmlite
import llvmlite.binding as llvm
from llvmlite.binding import ffi

_kept: Final = threading.local()


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


def own_machine(arch: str) -> Any:
    """This thread's target machine for an architecture: two threads must not use one at a time."""
    machines: dict[str, Any] = _kept.__dict__.setdefault("machines", {})
    if arch not in machines:
        machines[arch] = target_machine(arch)
    return machines[arch]


@cache
def _generate() -> Callable[..., Any]:
    """Code generation, bound anew: llvmlite holds one lock around every call, also around this long one.

    LLVM itself needs no lock between modules of different contexts.
    """
    name = "LLVMPY_TargetMachineEmitToMemory"
    function: Any = ctypes.CDLL(None, handle=ffi.lib._handle)[name]
    function.argtypes, function.restype = getattr(ffi.lib, name).argtypes, getattr(ffi.lib, name).restype
    return function  # type: ignore[no-any-return]


def emit_object(machine: Any, module: Any) -> bytes:
    """Object code; threads run side by side, each with a machine and a module in a context of its own."""
    with ffi.OutputString() as error:
        buffer = _generate()(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)

"""The device `sabotaged`: the reference device with one defect, which the variable SABOTAGE names."""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from pluggrad.device.ref import TARGET, HostAllocator, RefBackend, RefDevice, RefExecutable, RefToolchain
from pluggrad.plugin_api import (
    Allocation,
    Backend,
    Command,
    CompileError,
    Device,
    DType,
    Event,
    Prepared,
    Probe,
    Program,
    Scalar,
    Signature,
    Target,
    Toolchain,
    hookimpl,
)

DEFECT = os.environ.get("SABOTAGE", "")

if DEFECT == "heavy-import":
    import numpy as np  # noqa: F401

ELSEWHERE = "sabotage-2"  # a target that no device of this machine has
NOISE = itertools.cycle([0, 1, -1])  # of one run and the next
STORE_OF_LEAKS: list[Allocation] = []


# ---- memory ------------------------------------------------------------------------------------------------
class Leaking(HostAllocator):
    def free(self, allocation: Allocation) -> None:
        STORE_OF_LEAKS.append(allocation)


class WithoutOffsets(HostAllocator):
    def copyin(self, allocation: Allocation, offset: int, data: memoryview) -> None:
        super().copyin(allocation, 0, data)


class Sharing(HostAllocator):
    """Every allocation is the beginning of one piece of memory."""

    def __init__(self) -> None:
        self._all = super().alloc(1 << 26)

    def alloc(self, nbytes: int, kind: str = "device") -> Allocation:
        return self._all[:nbytes]


# ---- kernels -----------------------------------------------------------------------------------------------
class Executable(RefExecutable):
    """A kernel; defects of launching are here."""

    def __init__(self, right: RefExecutable, signature: Signature, source: str) -> None:
        self._right, self._of, self._source = right, signature, source
        self._first: list[Scalar] | None = None

    def launch(self, args: Sequence[Allocation], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        before = [bytes(arg) for arg in args] if DEFECT == "lost-tail" else []
        if DEFECT == "ignored-value":
            self._first = list(values) if self._first is None else self._first
            values = self._first
        if DEFECT == "hang":
            while True:
                time.sleep(0.1)
        if DEFECT == "segfault" or (DEFECT == "segfault-of-sqrt" and "= sqrt(" in self._source):
            ctypes.string_at(0)
        self._right.launch(args, values, grid, block, scratch)
        for arg, param, old in zip(args, self._of.buffers, before, strict=False):
            tail = param.size % 8 * param.dtype.itemsize
            if param.role == "out" and param.size > 8 and tail:
                end = param.size * param.dtype.itemsize
                memoryview(arg)[end - tail:end] = old[end - tail:end]
        if DEFECT == "non-deterministic" and "reduce" in self._source:
            self._add_noise(args)

    def _add_noise(self, args: Sequence[Allocation]) -> None:
        """An error as another order of additions makes."""
        for arg, param in zip(args, self._of.buffers, strict=True):
            if param.role == "out" and param.dtype.name == "float32":
                numbers = arg[:4 * param.size].view("float32")
                numbers *= 1 + next(NOISE) * 2.0**-23


class Late(Event):
    """An event that is there before its list has run, and does not wait for it."""

    def __init__(self, work: threading.Thread) -> None:
        self._work = work

    def wait(self) -> None:
        return


class Sabotaged(RefDevice):
    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target
        allocators = {"leak": Leaking, "ignored-offset": WithoutOffsets, "shared-memory": Sharing}
        self.allocator = allocators.get(DEFECT, HostAllocator)()
        self._works: list[threading.Thread] = []

    def load(self, binary: bytes, signature: Signature) -> RefExecutable:
        return Executable(super().load(binary, signature), signature, binary.decode())

    def submit(self, commands: Sequence[Command], slots: Sequence[Allocation], values: Sequence[Scalar],
               ) -> Event:
        if DEFECT != "early-event":
            return super().submit(commands, slots, values)
        work = threading.Thread(target=super().submit, args=(commands, slots, values))
        work.start()
        self._works.append(work)
        return Late(work)

    def synchronize(self) -> None:
        for work in self._works:
            work.join()


class Preparing(Sabotaged):
    """Implements a feature that it does not declare."""

    def prepare(self, commands: Sequence[Command], value_dtypes: Sequence[DType]) -> Prepared:
        return lambda slots, values: self.submit(commands, slots, values)


# ---- code --------------------------------------------------------------------------------------------------
class CarelessTarget(Target):
    """One key, whatever the architecture."""

    def key(self) -> tuple[object, ...]:
        return self.capabilities.key()


class SabotagedToolchain(RefToolchain):
    def __init__(self, target: Target) -> None:
        self.target = target

    def render(self, program: Program) -> str:
        if DEFECT == "empty-name" and self.target.arch == ELSEWHERE:
            return ""
        source = super().render(program)
        if DEFECT == "wrong-max":
            return source.replace("= max(", "= min(")
        if DEFECT == "over-claimed-dtype" and "float16" in source:
            raise CompileError("error: unknown type name 'half'", source=source)
        return source


class SabotagedBackend(RefBackend):
    def probe(self) -> Probe:
        if DEFECT == "probe-raises":
            raise OSError("libsabotage.so: cannot open shared object file")
        return super().probe()

    def target(self, index: int, variant: str) -> Target:
        features = frozenset({"graph"}) if DEFECT == "missing-feature" else frozenset()
        kind = CarelessTarget if DEFECT == "careless-key" else Target
        return kind("sabotage-1", replace(TARGET.capabilities, features=features))

    def toolchain(self, target: Target) -> Toolchain:
        return SabotagedToolchain(target)

    def targets(self) -> dict[str, Target]:
        return {"elsewhere": Target(ELSEWHERE, TARGET.capabilities)}

    def open(self, index: int, variant: str) -> Device:
        return (Preparing if DEFECT == "undeclared-feature" else Sabotaged)(self.target(index, variant))


@hookimpl
def pluggrad_backend(api: object) -> Backend:
    return SabotagedBackend()

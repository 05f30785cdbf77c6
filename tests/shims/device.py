"""The device `shim`: kernels made for a GPU, run on the CPU. It exists in processes of `tests/shims` alone.

There are two of it. `Collecting` keeps the source of every kernel that it is given and computes by the
interpreter; `Running` runs kernels that were compiled as C++. What neither can show: real parallelism, a
GPU's memory model, races between warps that no order of turns brings out, what the vendor's compiler refuses
or gets wrong, and speed.
"""
from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from pluggrad.device.contract import Backend, Device, Executable, Probe, Signature, Toolchain
from pluggrad.device.discovery import Entry
from pluggrad.device.host import pack_values
from pluggrad.device.plugins import Plugin
from pluggrad.device.registry import REGISTRY
from pluggrad.device.seal import seal, unseal
from pluggrad.dtypes import Scalar
from pluggrad.errors import DeviceUnavailable, KernelFault
from pluggrad.kernel.interpret import compile_kernel
from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.lower.program import Program
from pluggrad.target import Target
from tests.shims.languages import Architecture
from tests.shims.libraries import Libraries
from tests.shims.maps import encoded
from tests.shims.memory import Block, GuardedAllocator

NAME: Final = "shim"
_SLOT: Final = 8  # bytes of a packed value, and of a pointer
_ORDERS: Final = (0, 1)  # ascending, descending

Run = Callable[[Sequence[Block], Sequence[Scalar], int], None]
Load = Callable[[str, Signature], Run]


class Executed(Executable):
    """A loaded kernel."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def launch(self, args: Sequence[Block], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        self._run(args, values, grid)


class ShimDevice(Device):
    """Synchronous, on guarded memory."""

    def __init__(self, target: Target, load: Load) -> None:
        self.target, self._load = target, load
        self.allocator = GuardedAllocator(target.capabilities.alignment)

    def load(self, binary: bytes, signature: Signature) -> Executable:
        return Executed(self._load(unseal(binary).decode(), signature))


class ShimToolchain(Toolchain):
    """A binary is its source. `kernels` are those that were rendered, by source."""

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture
        self.cache_key = f"shim {architecture.target.arch}"
        self.kernels: dict[str, Kernel] = {}

    def render(self, program: Program) -> str:
        source = self._architecture.language.render(program, self._architecture.target)
        self.kernels[source] = program.kernel
        return source

    def compile(self, source: str) -> bytes:
        return seal(source.encode())


class ShimBackend(Backend):
    """One device. `load` makes a kernel callable."""

    def __init__(self, architecture: Architecture, load: Load) -> None:
        target = architecture.target
        # what the device under the kernels offers is not the GPU's
        plain = replace(target.capabilities, features=frozenset(), unified_memory=False)
        self._target, self._load = replace(target, capabilities=plain), load
        self._toolchain = ShimToolchain(architecture)

    def probe(self) -> Probe:
        return Probe(1, (f"{self._target.arch} on the CPU",))

    def target(self, index: int, variant: str) -> Target:
        return self._target

    def toolchain(self, target: Target) -> ShimToolchain:
        return self._toolchain

    def open(self, index: int, variant: str) -> Device:
        if index or variant:
            raise DeviceUnavailable("there is one device")
        return ShimDevice(self._target, self._load)


# ------------------------------------------------------------------------------------------ two of it


class Collecting:
    """Runs kernels by the interpreter, and keeps their sources in the order in which they came."""

    def __init__(self, architecture: Architecture) -> None:
        self.backend = ShimBackend(architecture, self._load)

    @property
    def sources(self) -> list[str]:
        """Every source rendered, once."""
        return list(self.backend.toolchain(self.backend.target(0, "")).kernels)

    def _load(self, source: str, signature: Signature) -> Run:
        run = compile_kernel(self.backend.toolchain(self.backend.target(0, "")).kernels[source])

        def launch(args: Sequence[Block], values: Sequence[Scalar], grid: int) -> None:
            run([_array(arg, param) for arg, param in zip(args, signature.buffers)], values)
        return launch


def _array(block: Block, param: BufferParam) -> np.ndarray[Any, Any]:
    memory = (ctypes.c_ubyte * (param.size * param.dtype.itemsize)).from_address(block.address)
    return np.frombuffer(memory, param.dtype.numpy) if param.size else np.empty(0, param.dtype.numpy)


class Running:
    """Runs kernels out of libraries.

    At its first launch a kernel runs in several orders, of blocks and of the threads of a block between
    barriers, which have to give the same bits: a barrier that is missing shows.
    """

    def __init__(self, architecture: Architecture, libraries: Libraries) -> None:
        self.backend = ShimBackend(architecture, self._load)
        self._libraries = libraries
        self._seen: set[str] = set()
        self._lock = threading.Lock()  # fibers and the memory of groups are one for the process

    def _load(self, source: str, signature: Signature) -> Run:
        function, packed = self._libraries.function(source), self._libraries.language.packed

        def launch(args: Sequence[Block], values: Sequence[Scalar], grid: int) -> None:
            maps = encoded(signature.boxes, signature.buffers, [arg.address for arg in args])
            given = Arguments(args, maps, pack_values(values, signature.values), packed)

            def run(order: int) -> None:
                error = function(given.addresses, grid, signature.group, signature.scratch, order)
                if error is not None:
                    raise KernelFault(f"{signature.name}: {error.decode()}")

            with self._lock:
                first = source not in self._seen
                self._seen.add(source)
                _in_each_order(run, signature, args) if first else run(_ORDERS[0])
            for arg in args:
                arg.check()
        return launch


class Arguments:
    """The addresses of a kernel's arguments: of pointers to buffers, of maps of its boxes, and of values.
    packed: these are one more buffer, if there are any."""

    def __init__(self, args: Sequence[Block], maps: Sequence[Any], values: bytes, packed: bool) -> None:
        self._maps = maps
        self._values = ctypes.create_string_buffer(values, len(values) or 1)
        start = ctypes.addressof(self._values)
        pointers = [arg.address for arg in args] + ([start] if packed and values else [])
        self._pointers = (ctypes.c_void_p * len(pointers))(*pointers)
        given = [ctypes.addressof(self._pointers) + _SLOT * i for i in range(len(pointers))]
        given += [ctypes.addressof(map) for map in maps]
        given += [] if packed else [start + i for i in range(0, len(values), _SLOT)]
        self.addresses = (ctypes.c_void_p * len(given))(*given)


def _in_each_order(run: Callable[[int], None], signature: Signature, args: Sequence[Block]) -> None:
    """Run a kernel in each order on the same memory; KernelFault if a result depends on it."""
    written = [arg for arg, param in zip(args, signature.buffers) if param.role != "in"]
    before = [ctypes.string_at(arg.address, arg.nbytes) for arg in written]
    results = []
    for order in _ORDERS:
        for arg, old in zip(written, before):
            ctypes.memmove(arg.address, old, arg.nbytes)
        run(order)
        results.append([ctypes.string_at(arg.address, arg.nbytes) for arg in written])
    if any(result != results[0] for result in results):
        raise KernelFault(op=signature.name, expected="the same bits in whatever order threads take turns",
                          got="bits that differ",
                          hint="A barrier is missing, or two threads store to one element")


def install(backend: ShimBackend) -> None:
    """Make the device known in this process, as `shim`."""
    REGISTRY.entries()
    plugin = Plugin(Entry(NAME, __name__, "devices", 1, "pluggrad-tests", "0"), REGISTRY._host)
    plugin._backend = backend
    REGISTRY._plugins[NAME] = plugin

"""The built-in reference device: runs kernels through the NumPy interpreter, on host memory.

Slow and right: the oracle that others are compared with, never chosen by default while there is a compiled
one. It is also the shortest complete implementation of the device contract. Importing it loads no NumPy.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pluggrad import dtypes
from pluggrad.device.contract import Backend, Device, Executable, Probe, Signature, Toolchain
from pluggrad.device.hookspecs import PluginApi, hookimpl
from pluggrad.device.host import HOST_ALIGNMENT, HostAllocator
from pluggrad.dtypes import Scalar
from pluggrad.errors import CompileError, DeviceUnavailable, FileFormatError
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.ops import KERNEL_OPS
from pluggrad.kernel.text import kernel_text, parse_kernel
from pluggrad.lower.program import Program
from pluggrad.target import Capabilities, Target

if TYPE_CHECKING:
    from pluggrad.kernel.interpret import Run
    from pluggrad.kernel.numpy_ops import Array

_NAMES: Final = frozenset(dtype.name for dtype in dtypes.ALL)

TARGET: Final = Target("numpy", Capabilities(
    dtypes=_NAMES, arithmetic=_NAMES, ops=frozenset(KERNEL_OPS), interprets_kernels=True, unified_memory=True,
    alignment=HOST_ALIGNMENT, launch_cost_us=50.0, flops_per_core=1e9, bytes_per_second=5e9,
    features=frozenset({"zero_copy"})))


class RefToolchain(Toolchain):
    """The source of a kernel is its text, and so is the binary."""

    cache_key = "kernel-text-1"

    def render(self, program: Program) -> str:
        return kernel_text(program.kernel)

    def compile(self, source: str) -> bytes:
        _parse(source)
        return source.encode()

    def disassemble(self, binary: bytes) -> str:
        return binary.decode()


def _parse(source: str) -> Kernel:
    try:
        return parse_kernel(source)
    except FileFormatError as error:
        raise CompileError(f"not the text of a kernel: {error}", source=source, log=str(error)) from error


class RefExecutable(Executable):
    """A kernel made into a chain of NumPy calls."""

    def __init__(self, run: Run, signature: Signature) -> None:
        self._run, self._signature = run, signature

    def launch(self, args: Sequence[Array], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        """Run the whole kernel; how it was divided into tasks does not matter here."""
        buffers = [arg[:param.size * param.dtype.itemsize].view(param.dtype.numpy)
                   for arg, param in zip(args, self._signature.buffers)]
        self._run(buffers, values)


class RefDevice(Device):
    """One synchronous device; commands run one by one, as the base class does."""

    def __init__(self, target: Target = TARGET) -> None:
        self.target = target
        self.allocator = HostAllocator()

    def load(self, binary: bytes, signature: Signature) -> Executable:
        from pluggrad.kernel.interpret import compile_kernel

        # what is not text at all becomes text that does not parse
        return RefExecutable(compile_kernel(_parse(binary.decode(errors="replace"))), signature)


class RefBackend(Backend):
    """Always there, on every machine, once."""

    tier = 0

    def probe(self) -> Probe:
        return Probe(1, ("NumPy interpreter",))

    def target(self, index: int, variant: str) -> Target:
        return TARGET

    def toolchain(self, target: Target) -> RefToolchain:
        return RefToolchain()

    def open(self, index: int, variant: str) -> Device:
        if index or variant:
            got = f"index {index}, variant {variant!r}"
            raise DeviceUnavailable(op="open", expected="index 0 without a variant", got=got)
        return RefDevice()

    def describe(self) -> str:
        from importlib.metadata import version

        return f"NumPy {version('numpy')}"


@hookimpl
def pluggrad_backend(api: PluginApi) -> RefBackend:
    """The entry point of this device."""
    return RefBackend()

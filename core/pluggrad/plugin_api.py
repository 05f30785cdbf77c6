"""The one module that plugins import. Importing it loads no NumPy and no driver; what belongs to the compiler
is resolved on first access, as a process that finds its kernels on disk needs none of it.

A device is a distribution with an entry point in the group `pluggrad.devices.v1`, whose module implements the
hook `pluggrad_backend`.
"""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from pluggrad import dtypes
from pluggrad.config import Setting, cache_folder
from pluggrad.device.budget import MemoryBudget
from pluggrad.device.contract import (
    DONE,
    FEATURES,
    Allocation,
    Allocator,
    Backend,
    Command,
    CopyCommand,
    Device,
    Event,
    Executable,
    FillCommand,
    Launch,
    Prepared,
    Probe,
    Signature,
    SlotRef,
    SupportsAsync,
    SupportsPeer,
    SupportsPrepare,
    SupportsThreads,
    SupportsTiming,
    SupportsZeroCopy,
    Toolchain,
    Variant,
    implemented,
)
from pluggrad.device.forks import ForkGuard
from pluggrad.device.hookspecs import (
    CopyFinished,
    KernelCompiled,
    KernelFinished,
    KernelInfo,
    PhaseTime,
    PluginApi,
    hookimpl,
)
from pluggrad.device.polling import poll
from pluggrad.device.seal import seal, unseal
from pluggrad.device.versions import API_MAJOR, API_MINOR
from pluggrad.dtypes import DType, Scalar
from pluggrad.errors import (
    CompileError,
    DeviceError,
    DeviceLost,
    DeviceUnavailable,
    KernelFault,
    OutOfMemoryError,
    PluggradWarning,
    UnknownDevice,
    UnsupportedDType,
)
from pluggrad.target import BoxEngine, Capabilities, DeviceId, MatrixUnit, Target

if TYPE_CHECKING:
    from pluggrad.device.host import HOST_ALIGNMENT, HostAllocator, load_function, pack_values
    from pluggrad.device.ref import RefBackend, RefDevice
    from pluggrad.kernel.kernel import Axis, Box, BufferParam, ConstBits, Dim, Kernel
    from pluggrad.kernel.matmul import Matmul, Matrix
    from pluggrad.kernel.offer import Extern, Offer
    from pluggrad.lower.matrices import MatrixTile, Panel
    from pluggrad.lower.program import Instr, Program, RegisterAxis
    from pluggrad.render import CLikeRenderer, CVectorRenderer, Source, Value, merged

# name -> the module that holds it, imported when it is first asked for
_ON_ACCESS: Final[dict[str, str]] = {
    "HOST_ALIGNMENT": "pluggrad.device.host",
    "HostAllocator": "pluggrad.device.host",
    "load_function": "pluggrad.device.host",
    "pack_values": "pluggrad.device.host",
    "RefBackend": "pluggrad.device.ref",
    "RefDevice": "pluggrad.device.ref",
    "Axis": "pluggrad.kernel.kernel",
    "Box": "pluggrad.kernel.kernel",
    "BufferParam": "pluggrad.kernel.kernel",
    "ConstBits": "pluggrad.kernel.kernel",
    "Dim": "pluggrad.kernel.kernel",
    "Kernel": "pluggrad.kernel.kernel",
    "Matmul": "pluggrad.kernel.matmul",
    "Matrix": "pluggrad.kernel.matmul",
    "Extern": "pluggrad.kernel.offer",
    "Offer": "pluggrad.kernel.offer",
    "MatrixTile": "pluggrad.lower.matrices",
    "Panel": "pluggrad.lower.matrices",
    "Instr": "pluggrad.lower.program",
    "Program": "pluggrad.lower.program",
    "RegisterAxis": "pluggrad.lower.program",
    "CLikeRenderer": "pluggrad.render",
    "CVectorRenderer": "pluggrad.render",
    "Source": "pluggrad.render",
    "Value": "pluggrad.render",
    "merged": "pluggrad.render",
}

__all__ = [
    # the contract
    "Backend", "Variant", "Probe", "Device", "Allocator", "Allocation", "Executable", "Toolchain",
    "Signature", "Event", "DONE", "Prepared", "Command", "Launch", "CopyCommand", "FillCommand", "SlotRef",
    # optional features
    "FEATURES", "implemented", "SupportsAsync", "SupportsPeer", "SupportsPrepare", "SupportsThreads",
    "SupportsTiming", "SupportsZeroCopy",
    # binaries
    "seal", "unseal", "cache_folder",
    # for devices in host memory
    "HostAllocator", "HOST_ALIGNMENT", "load_function", "pack_values", "RefBackend", "RefDevice",
    # for drivers: forks that they do not survive, memory that they promise and lack, waits that Ctrl-C ends
    "ForkGuard", "MemoryBudget", "poll",
    # hooks
    "hookimpl", "PluginApi", "API_MAJOR", "API_MINOR",
    "KernelInfo", "KernelCompiled", "PhaseTime", "KernelFinished", "CopyFinished",
    # values
    "dtypes", "DType", "Scalar", "DeviceId", "Target", "Capabilities", "MatrixUnit", "BoxEngine",
    # what a renderer receives
    "Program", "Instr", "RegisterAxis", "MatrixTile", "Panel", "Kernel", "Axis", "BufferParam", "ConstBits",
    "Box", "Dim",
    # a renderer to derive one from
    "CLikeRenderer", "CVectorRenderer", "Source", "Value", "merged",
    # what a backend may take over
    "Offer", "Extern", "Matmul", "Matrix",
    # settings and errors
    "Setting", "DeviceError", "DeviceUnavailable", "UnknownDevice", "UnsupportedDType", "CompileError",
    "KernelFault", "DeviceLost", "OutOfMemoryError", "PluggradWarning",
]


def __getattr__(name: str) -> Any:
    home = _ON_ACCESS.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(home), name)
    return value

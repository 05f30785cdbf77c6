"""The one module that plugins import. Importing it loads no NumPy and no driver.

A device is a distribution with an entry point in the group `pluggrad.devices.v1`, whose module implements the
hook `pluggrad_backend`.
"""
from __future__ import annotations

from pluggrad import dtypes
from pluggrad.config import Setting
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
from pluggrad.device.hookspecs import (
    CopyFinished,
    KernelCompiled,
    KernelFinished,
    KernelInfo,
    PhaseTime,
    PluginApi,
    hookimpl,
)
from pluggrad.device.host import HOST_ALIGNMENT, HostAllocator, load_function, pack_values
from pluggrad.device.ref import RefBackend, RefDevice
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
from pluggrad.kernel.kernel import Axis, BufferParam, ConstBits, Kernel
from pluggrad.kernel.matmul import Matmul, Matrix
from pluggrad.kernel.offer import Extern, Offer
from pluggrad.lower.program import Instr, Program, RegisterAxis
from pluggrad.render import CLikeRenderer, CVectorRenderer, Source, Value
from pluggrad.target import Capabilities, DeviceId, Target

__all__ = [
    # the contract
    "Backend", "Variant", "Probe", "Device", "Allocator", "Allocation", "Executable", "Toolchain",
    "Signature", "Event", "DONE", "Prepared", "Command", "Launch", "CopyCommand", "FillCommand", "SlotRef",
    # optional features
    "FEATURES", "implemented", "SupportsAsync", "SupportsPeer", "SupportsPrepare", "SupportsThreads",
    "SupportsTiming", "SupportsZeroCopy",
    # binaries
    "seal", "unseal",
    # for devices in host memory
    "HostAllocator", "HOST_ALIGNMENT", "load_function", "pack_values", "RefBackend", "RefDevice",
    # hooks
    "hookimpl", "PluginApi", "API_MAJOR", "API_MINOR",
    "KernelInfo", "KernelCompiled", "PhaseTime", "KernelFinished", "CopyFinished",
    # values
    "dtypes", "DType", "Scalar", "DeviceId", "Target", "Capabilities",
    # what a renderer receives
    "Program", "Instr", "RegisterAxis", "Kernel", "Axis", "BufferParam", "ConstBits",
    # a renderer to derive one from
    "CLikeRenderer", "CVectorRenderer", "Source", "Value",
    # what a backend may take over
    "Offer", "Extern", "Matmul", "Matrix",
    # settings and errors
    "Setting", "DeviceError", "DeviceUnavailable", "UnknownDevice", "UnsupportedDType", "CompileError",
    "KernelFault", "DeviceLost", "OutOfMemoryError", "PluggradWarning",
]

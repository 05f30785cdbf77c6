"""The double of pyobjc's `Metal`: a machine with GPUs whose kernels the core's interpreter runs."""

from __future__ import annotations

from compilation import (  # noqa: F401  pyobjc has all names in this one module
    MTLBinaryArchiveDescriptor,
    MTLCompileOptions,
    MTLComputePipelineDescriptor,
    MTLMathModeSafe,
    MTLPipelineOptionFailOnBinaryArchiveMiss,
    MTLPipelineOptionNone,
    embed_kernels,
)
from gpu import Device, MTLResourceStorageModePrivate, MTLResourceStorageModeShared  # noqa: F401
from machine import MACHINE, Size
from submission import (  # noqa: F401
    MTLBarrierScopeBuffers,
    MTLCommandBufferErrorAccessRevoked,
    MTLCommandBufferErrorDeviceRemoved,
    MTLCommandBufferErrorOutOfMemory,
    MTLCommandBufferStatusCompleted,
    MTLCommandBufferStatusError,
    MTLDispatchTypeConcurrent,
)

embed_kernels()


def MTLSizeMake(width: int, height: int, depth: int) -> Size:
    return Size(width, height, depth)


def _devices() -> list[Device]:
    if not MACHINE.devices:
        MACHINE.devices.append(Device())
    return MACHINE.devices


def MTLCreateSystemDefaultDevice() -> Device | None:
    return _devices()[0] if MACHINE.has_default else None


def MTLCopyAllDevices() -> list[Device]:
    return list(_devices())

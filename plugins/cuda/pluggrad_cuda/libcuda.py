"""The driver's library by ctypes: what pycuda lacks. That is a function's handle, which graphs need, and with
it modules and launches; graphs; copies between two contexts; maps of tensors; and the numbers of errors.

Layouts and signatures are those of cuda.h for CUDA 12.0 and later; entry points carry their version suffix.
"""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulonglong, c_void_p
from functools import cache
from typing import Any, Final, NoReturn

# CUresult, as far as somebody asks for one by name
OUT_OF_MEMORY: Final = 2
DEINITIALIZED: Final = 4
DEVICE_UNAVAILABLE: Final = 46
NO_DEVICE: Final = 100
NOT_FOUND: Final = 500
PEER_ACCESS_ALREADY_ENABLED: Final = 704
UNKNOWN: Final = 999
SYSTEM_DRIVER_MISMATCH: Final = 803
# after these a context answers every call with the same error, until the process ends
STICKY: Final = frozenset({
    DEINITIALIZED,
    214,  # ECC_UNCORRECTABLE
    220,  # NVLINK_UNCORRECTABLE
    226,  # CONTAINED
    700,  # ILLEGAL_ADDRESS
    702,  # LAUNCH_TIMEOUT
    703,  # LAUNCH_INCOMPATIBLE_TEXTURING
    709,  # CONTEXT_IS_DESTROYED
    710,  # ASSERT
    714,  # HARDWARE_STACK_ERROR
    715,  # ILLEGAL_INSTRUCTION
    716,  # MISALIGNED_ADDRESS
    717,  # INVALID_ADDRESS_SPACE
    718,  # INVALID_PC
    719,  # LAUNCH_FAILED
    721,  # TENSOR_MEMORY_LEAK
    UNKNOWN,
})
_NAMED: Final = STICKY | {OUT_OF_MEMORY, DEVICE_UNAVAILABLE, NO_DEVICE, PEER_ACCESS_ALREADY_ENABLED,
                          SYSTEM_DRIVER_MISMATCH}

SHARED_SIZE_BYTES: Final = 1  # CUfunction_attribute
MAX_DYNAMIC_SHARED_SIZE_BYTES: Final = 8
DEVICE_MEMORY: Final = 2  # CUmemorytype
# of tensor maps: CUtensorMapDataType, -Interleave, -Swizzle, -L2promotion, -FloatOOBfill
MAP_OF_UINT16: Final = 1
NO_INTERLEAVE: Final = 0
SWIZZLE_128B: Final = 3
PROMOTED_TO_256B: Final = 3
FILLED_WITH_ZEROS: Final = 0
ENCODE_MAP: Final = "cuTensorMapEncodeTiled"


class KernelNode(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2."""

    _fields_ = [
        ("func", c_void_p),
        ("gridDimX", c_uint), ("gridDimY", c_uint), ("gridDimZ", c_uint),
        ("blockDimX", c_uint), ("blockDimY", c_uint), ("blockDimZ", c_uint),
        ("sharedMemBytes", c_uint),
        ("kernelParams", c_void_p), ("extra", c_void_p),
        ("kern", c_void_p), ("ctx", c_void_p)]


class CopyNode(ctypes.Structure):
    """CUDA_MEMCPY3D_v2."""

    _fields_ = [
        ("srcXInBytes", c_size_t), ("srcY", c_size_t), ("srcZ", c_size_t), ("srcLOD", c_size_t),
        ("srcMemoryType", c_uint), ("srcHost", c_void_p), ("srcDevice", c_uint64), ("srcArray", c_void_p),
        ("reserved0", c_void_p), ("srcPitch", c_size_t), ("srcHeight", c_size_t),
        ("dstXInBytes", c_size_t), ("dstY", c_size_t), ("dstZ", c_size_t), ("dstLOD", c_size_t),
        ("dstMemoryType", c_uint), ("dstHost", c_void_p), ("dstDevice", c_uint64), ("dstArray", c_void_p),
        ("reserved1", c_void_p), ("dstPitch", c_size_t), ("dstHeight", c_size_t),
        ("WidthInBytes", c_size_t), ("Height", c_size_t), ("Depth", c_size_t)]


class FillNode(ctypes.Structure):
    """CUDA_MEMSET_NODE_PARAMS."""

    _fields_ = [
        ("dst", c_uint64), ("pitch", c_size_t), ("value", c_uint), ("elementSize", c_uint),
        ("width", c_size_t), ("height", c_size_t)]


_HANDLE: Final = c_void_p  # of a module, function, graph, node, stream or context
_OUT: Final = POINTER(c_void_p)
_PROTOTYPES: Final[dict[str, tuple[Any, ...]]] = {
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuModuleLoadData": (_OUT, c_char_p),
    "cuModuleUnload": (_HANDLE,),
    "cuModuleGetFunction": (_OUT, _HANDLE, c_char_p),
    "cuFuncGetAttribute": (POINTER(c_int), c_int, _HANDLE),
    "cuFuncSetAttribute": (_HANDLE, c_int, c_int),
    "cuLaunchKernel": (_HANDLE, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, _HANDLE, c_void_p,
                       c_void_p),
    "cuMemcpyPeerAsync": (c_uint64, _HANDLE, c_uint64, _HANDLE, c_size_t, _HANDLE),
    "cuGraphCreate": (_OUT, c_uint),
    "cuGraphAddKernelNode_v2": (_OUT, _HANDLE, c_void_p, c_size_t, POINTER(KernelNode)),
    "cuGraphAddMemcpyNode": (_OUT, _HANDLE, c_void_p, c_size_t, POINTER(CopyNode), _HANDLE),
    "cuGraphAddMemsetNode": (_OUT, _HANDLE, c_void_p, c_size_t, POINTER(FillNode), _HANDLE),
    "cuGraphAddEmptyNode": (_OUT, _HANDLE, c_void_p, c_size_t),
    "cuGraphInstantiateWithFlags": (_OUT, _HANDLE, c_ulonglong),
    "cuGraphExecKernelNodeSetParams_v2": (_HANDLE, _HANDLE, POINTER(KernelNode)),
    "cuGraphExecMemcpyNodeSetParams": (_HANDLE, _HANDLE, POINTER(CopyNode), _HANDLE),
    "cuGraphExecMemsetNodeSetParams": (_HANDLE, _HANDLE, POINTER(FillNode), _HANDLE),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphDestroy": (_HANDLE,),
}
# what a driver may lack
_OPTIONAL: Final[dict[str, tuple[Any, ...]]] = {
    ENCODE_MAP: (c_void_p, c_int, c_uint, c_uint64, c_void_p, c_void_p, c_void_p, c_void_p, c_int, c_int,
                 c_int, c_int),
}


class DriverCallFailed(Exception):
    """A call returned something else than success."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name}: {status_text(code)}")
        self.code = code


@cache
def library() -> Any:
    """The driver's library, its prototypes set. OSError without a driver, AttributeError of an older one."""
    loaded = open_library()
    there = {name: arguments for name, arguments in _OPTIONAL.items() if hasattr(loaded, name)}
    for name, arguments in (_PROTOTYPES | there).items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, c_int
    return loaded


def open_library() -> Any:
    """The driver's library; OSError where there is none."""
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def makes_maps() -> bool:
    """Whether the driver encodes tensor maps, as all for CUDA 12 should."""
    return hasattr(library(), ENCODE_MAP)


def call(name: str, *arguments: Any) -> None:
    """Call an entry point; DriverCallFailed unless it succeeds."""
    code = getattr(library(), name)(*arguments)
    if code:
        _fail(name, code)


def made(name: str, *arguments: Any) -> int:
    """The handle that an entry point puts where its first argument points to."""
    handle = c_void_p()
    call(name, ctypes.byref(handle), *arguments)
    return handle.value or 0


def handles(values: Sequence[int]) -> Any:
    """An array of handles, as an argument; None for none."""
    return (c_void_p * len(values))(*values) if values else None


def _fail(name: str, code: int) -> NoReturn:
    raise DriverCallFailed(name, code)


def status_text(code: int) -> str:
    """A status by name and in words."""
    return f"{_text('cuGetErrorName', code) or 'status'} ({code}: {_text('cuGetErrorString', code)})"


def code_in(message: str) -> int:
    """The status that an error of pycuda is about, which it tells in words alone; 0 for any other."""
    said = message.partition(" failed: ")[2].partition(" - ")[0]
    return _codes().get(said, 0)


@cache
def _codes() -> dict[str, int]:
    return {_text("cuGetErrorString", code): code for code in sorted(_NAMED)}


def _text(name: str, code: int) -> str:
    found = c_char_p()
    if getattr(library(), name)(code, ctypes.byref(found)) or found.value is None:
        return ""
    return found.value.decode(errors="replace")

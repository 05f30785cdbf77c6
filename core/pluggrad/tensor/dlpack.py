"""DLPack capsules, made and read by NumPy, which frees them as they have to be: once, from any thread.

NumPy has no bfloat16. Its elements travel as uint16 through NumPy, and the capsule says what they are: that
is a field of the structure which a capsule holds, read and written here.
"""
from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, ExportError

CPU: Final = (1, 0)  # kDLCPU
_SEEN_BY_HOST: Final = frozenset({1, 3, 11, 13})  # kDLCPU, kDLCUDAHost, kDLROCMHost, kDLCUDAManaged
_UINT, _BFLOAT = 1, 4
_OLDEST_VERSIONED = (1, 0)
# NumPy speaks of versions and read-only memory since 2.1
_VERSIONED: Final = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


class _DLTensor(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p),
                ("byte_offset", ctypes.c_uint64))


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _VersionedTensor(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
                ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("tensor", _DLTensor))


_LAYOUTS: Final = ((b"dltensor_versioned", _VersionedTensor), (b"dltensor", _ManagedTensor))

_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes, _is_valid.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_int
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.argtypes, _pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p


def _described(capsule: object) -> _DLTensor:
    """The tensor in a capsule; DTypeError where there is none, or somebody took it already."""
    for name, layout in _LAYOUTS:
        if type(capsule).__name__ == "PyCapsule" and _is_valid(capsule, name):
            tensor: _DLTensor = layout.from_address(_pointer(capsule, name)).tensor
            return tensor
    raise DTypeError(op="from_dlpack", got=type(capsule).__name__,
                     expected="an object with __dlpack__, or a capsule that nobody has taken")


def can_say_read_only(max_version: tuple[int, int] | None) -> bool:
    """Whether a capsule for a consumer of that version can forbid to write to its memory."""
    return _VERSIONED and max_version is not None and max_version >= _OLDEST_VERSIONED


def exported(array: npt.NDArray[Any], dtype: DType, max_version: tuple[int, int] | None) -> Any:
    """A capsule with an array in storage dtype, which it keeps alive."""
    named = {"max_version": max_version} if can_say_read_only(max_version) else {}
    capsule = array.__dlpack__(**named)  # type: ignore[arg-type]
    if dtype is dtypes.bfloat16:
        _described(capsule).code = _BFLOAT
    return capsule


class _Offer:
    """A capsule as NumPy takes one."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU

    def __dlpack__(self, **request: Any) -> Any:
        return self._capsule


def imported(source: Any) -> tuple[npt.NDArray[Any], DType]:
    """The array of an object with `__dlpack__`, or of a capsule, in storage dtype, and its dtype.

    It shares the memory and holds it. ExportError where the host cannot have it; DTypeError for what is no
    such object, or holds elements that we lack.
    """
    capsule = _requested(source) if hasattr(source, "__dlpack__") else source
    tensor = _described(capsule)
    found = None
    if (tensor.code, tensor.bits) == (_BFLOAT, 16):
        tensor.code, found = _UINT, dtypes.bfloat16  # ours now: whoever takes a capsule owns what is in it
    try:
        array = np.from_dlpack(_Offer(capsule))
    except (BufferError, RuntimeError) as error:
        expected = "numbers in memory of the host"
        raise ExportError(op="from_dlpack", expected=expected, got=str(error)) from error
    return array, found or dtypes.to_dtype(array.dtype)


def _requested(source: Any) -> Any:
    kind = source.__dlpack_device__()[0]
    if kind in _SEEN_BY_HOST:
        try:
            return source.__dlpack__(max_version=_OLDEST_VERSIONED)
        except TypeError:  # an exporter that is older than versions
            return source.__dlpack__()
    try:
        return source.__dlpack__(max_version=_OLDEST_VERSIONED, dl_device=CPU)
    except (TypeError, BufferError) as error:
        expected = "memory of the host, or an exporter that copies it there"
        raise ExportError(op="from_dlpack", expected=expected, got=f"device {kind} of DLPack: {error}",
                          hint="Move it to the CPU first") from error

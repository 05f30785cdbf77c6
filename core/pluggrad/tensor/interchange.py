"""Values in and out in place: NumPy's `__array__`, the buffer protocol, DLPack.

Nobody sees later writes of anybody else. What leaves is read-only, and a tensor that is written to afterwards
moves to memory of its own: the others keep the values that they were given. That costs one copy, at the first
write. The exception is memory that came in through `from_dlpack`: whoever made it may go on writing to it.
"""
from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from pluggrad import dtypes, runtime
from pluggrad.errors import ExportError, ValueRangeError
from pluggrad.tensor import dlpack
from pluggrad.tensor.base import place
from pluggrad.tensor.data import Data

Array = npt.NDArray[Any]

_API_VERSIONS: Final = ("2021.12", "2022.12", "2023.12", "2024.12")
_WRITABLE: Final = 1  # PyBUF_WRITABLE
_EXTENSION: Final = 12  # kDLExtDev: memory that only its own device sees


def _sliced(array: Array, arg: tuple[tuple[int, int, int], ...]) -> Array:
    return array[tuple(slice(start, start + (size - 1) * step + 1 if size else start, step)
                       for start, size, step in arg)]


# a movement of the graph as one of NumPy's that copies nothing; others have no strides
_STRIDED: Final[dict[str, Callable[[Array, Any], Array]]] = {
    "reshape": np.reshape, "permute": np.transpose, "expand": np.broadcast_to, "flip": np.flip,
    "slice": _sliced}


class Interchange(Data):
    """Sharing memory with other libraries."""

    __slots__ = ()

    def _in_place(self) -> Array | None:
        """The value in storage dtype over the memory that holds it, read-only, strided where it is a view.

        None where the host does not see that memory, or no strides describe the view.
        """
        array = runtime.share(self if self._base is None else self._base)
        for name, arg in self._path() if array is not None else ():
            if array is None or name not in _STRIDED:
                return None
            moved = _STRIDED[name](array, arg)
            array = moved if np.may_share_memory(moved, array) or not moved.size else None
        if array is not None:
            array.flags.writeable = False  # what broadcast_to gave only warns
        return array

    # ---- NumPy ---------------------------------------------------------------------------------------------
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """For `np.asarray(x)`: read-only, the memory of the tensor where the host sees it, else a copy.

        bfloat16 is a copy in float32. `np.array(x)` and `x.numpy()` give a copy to write to.
        """
        ours = self.dtype is not dtypes.bfloat16 and (dtype is None or np.dtype(dtype) == self.dtype.numpy)
        shared = self._in_place() if ours and not copy else None
        if shared is not None:
            return shared
        if copy is False:
            raise ValueRangeError(op="__array__", expected="copy=None or copy=True",
                                  got=f"copy=False for {self.dtype.name} on {self.device} as {dtype}",
                                  hint="No array over the memory of the tensor says that")
        array = self.numpy()
        array = array if dtype is None else array.astype(dtype, copy=False)
        array.flags.writeable = bool(copy)  # alike on every device
        return array

    def data(self) -> memoryview:
        """The values, row-major, as a read-only memoryview of their memory; bfloat16 as uint16.

        A copy where the host does not see that memory, or for a view that is not row-major.
        """
        shared = self._in_place()
        contiguous = shared is not None and shared.flags.c_contiguous
        return memoryview(shared if contiguous else runtime.fetch(self)).toreadonly()  # type: ignore[arg-type]

    def __buffer__(self, flags: int) -> memoryview:
        """For `memoryview(x)` and all that takes buffers, from Python 3.12 on; before, `x.data()` is that."""
        shared = None if flags & _WRITABLE or self.dtype is dtypes.bfloat16 else self._in_place()
        if shared is None:
            raise ExportError(op="buffer", expected="a read-only view of numbers in memory of the host",
                              got=f"{self.dtype.name} on {self.device}", hint="x.numpy() is a copy")
        return memoryview(shared)  # type: ignore[arg-type]

    # ---- the array API standard ----------------------------------------------------------------------------
    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        """The module `pluggrad.array_api`; ValueRangeError for a version that it does not have."""
        from pluggrad import array_api

        if api_version not in (None, *_API_VERSIONS):
            raise ValueRangeError(op="__array_namespace__", expected=f"one of {', '.join(_API_VERSIONS)}",
                                  got=repr(api_version))
        return array_api

    def to_device(self, device: Any, /, *, stream: Any = None) -> Self:
        """`to` by the name of the array API standard; ValueRangeError for a stream."""
        if stream is not None:
            raise ValueRangeError(op="to_device", expected="stream=None", got=repr(stream))
        return self.to(device)

    # ---- DLPack --------------------------------------------------------------------------------------------
    def __dlpack_device__(self) -> tuple[int, int]:
        """Kind and number of the device by DLPack's enumeration: kDLCPU (1) where the host sees the memory,
        else kDLExtDev (12)."""
        device = self.node.device
        return dlpack.CPU if runtime.is_host_memory(device) else (_EXTENSION, device.index)

    def __dlpack__(self, *, stream: Any = None, max_version: tuple[int, int] | None = None,
                   dl_device: tuple[int, int] | None = None, copy: bool | None = None) -> Any:
        """A DLPack capsule with the values, for the `from_dlpack` of another library.

        The memory is shared and marked read-only; the capsule keeps it. Instead it is a copy, which may be
        written to, where `copy` is True. Unless it is False, that goes also for a consumer of before DLPack
        1.0 (`max_version` None), to whom read-only cannot be said, and for a device whose memory the host
        does not see (`dl_device` (1, 0)). ExportError otherwise, and for a stream or another device.
        """
        if stream is not None or dl_device not in (None, dlpack.CPU, self.__dlpack_device__()):
            raise ExportError(op="__dlpack__", expected="stream=None, and dl_device (1, 0) or None",
                              got=f"stream={stream} and dl_device={dl_device}")
        on_host = self.__dlpack_device__() == dlpack.CPU
        if not on_host and dl_device != dlpack.CPU:
            raise ExportError(op="__dlpack__", expected="a consumer that asks for memory of the host",
                              got=f"values on {self.device}",
                              hint="Move them: x.to('host'), or ask with dl_device=(1, 0)")
        shared = self._in_place() if dlpack.can_say_read_only(max_version) and not copy else None
        if shared is None and copy is False:
            raise ExportError(op="__dlpack__", expected="a consumer of DLPack 1.0 or later, on the host",
                              got=f"max_version={max_version} for values on {self.device}",
                              hint="Leave copy to None, or set it to True")
        return dlpack.exported(runtime.fetch(self) if shared is None else shared, self.dtype, max_version)

    @classmethod
    def from_dlpack(cls, x: Any, device: Any = None, copy: bool | None = None) -> Self:
        """A tensor from an object with `__dlpack__`, or from a DLPack capsule.

        On a device that computes in memory of the host it shares the memory, where that is row-major and
        aligned: what the other library writes there later changes the tensor, and what the tensor is written
        to never reaches the other library. Elsewhere, or with `copy=True`, it is a copy. device: the default
        one. ExportError where the host cannot have the memory, or with `copy=False` where it would be copied.
        """
        array, dtype = dlpack.imported(x)
        where = place(device)
        node = None if copy else runtime.borrow(array, dtype, where)
        if node is None and copy is False and array.nbytes:
            raise ExportError(op="from_dlpack", expected=f"row-major, aligned memory that {where} can use",
                              got=f"strides {array.strides} of {dtype.name}{array.shape}",
                              hint="copy=None copies it")
        return cls._made(runtime.upload(array, dtype, where) if node is None else node)

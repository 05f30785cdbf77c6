"""For devices whose memory is the process's own: an allocator, and kernels that are functions of a library.

Importing it loads no NumPy.
"""
from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pluggrad.device.contract import Allocator
from pluggrad.device.seal import unseal
from pluggrad.dtypes import DType, Scalar
from pluggrad.errors import KernelFault, OutOfMemoryError
from pluggrad.render.dialect import float_bits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

HOST_ALIGNMENT: Final = 64


class HostAllocator(Allocator):
    """Host memory, aligned to 64 bytes; an allocation is a NumPy array of bytes, its address `.ctypes.data`.

    A device with this allocator declares the feature `zero_copy`.
    """

    def alloc(self, nbytes: int, kind: str = "device") -> Bytes:
        """Memory of `nbytes`; OutOfMemoryError if the host has none left."""
        import numpy as np

        try:
            block = np.empty(nbytes + HOST_ALIGNMENT, np.uint8)
        except (MemoryError, ValueError) as error:  # ValueError: more than an array can index
            message = f"alloc: the host has no {nbytes} bytes of memory left"
            raise OutOfMemoryError(message, op="alloc", got=str(nbytes)) from error
        start = -block.ctypes.data % HOST_ALIGNMENT
        return block[start:start + nbytes]

    def free(self, allocation: Bytes) -> None:
        """The last reference frees it."""

    def copyin(self, allocation: Bytes, offset: int, data: memoryview) -> None:
        """Copy contiguous host bytes to `offset`."""
        if data.nbytes:  # an empty memoryview cannot be cast
            self.host_view(allocation)[offset:offset + data.nbytes] = data.cast("B")

    def copyout(self, data: memoryview, allocation: Bytes, offset: int) -> None:
        """Copy from `offset` into contiguous, writable host bytes."""
        if data.nbytes:
            data.cast("B")[:] = self.host_view(allocation)[offset:offset + data.nbytes]

    def view(self, allocation: Bytes, offset: int, nbytes: int) -> Bytes:
        """Part of an allocation; 0 bytes: all that follows `offset`."""
        return allocation[offset:offset + nbytes] if nbytes else allocation[offset:]

    def borrow(self, address: int, nbytes: int) -> Bytes | None:
        """The memory itself, where it is aligned."""
        import numpy as np

        if address % HOST_ALIGNMENT:
            return None
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))

    def host_view(self, allocation: Bytes) -> memoryview:
        """The memory itself."""
        return allocation.data


def load_function(binary: bytes, name: str) -> Any:
    """The function `name` of a shared library that `seal` wrapped, through ctypes.

    It stays loaded until the process ends. KernelFault if the binary is damaged, is no library for this
    machine or lacks the function.
    """
    library = unseal(binary)
    # where the file of a loaded library cannot be deleted, it is left to the system's cleaning
    with tempfile.TemporaryDirectory(prefix="pluggrad-", ignore_cleanup_errors=True) as folder:
        path = Path(folder, "library")
        path.write_bytes(library)
        try:
            return ctypes.CDLL(str(path))[name]
        except (OSError, AttributeError) as error:
            raise KernelFault(op="load", expected=f"a shared library with the function {name}",
                              got=str(error)) from error


def pack_values(values: Sequence[Scalar], dtypes: Sequence[DType]) -> bytes:
    """Run-time values as a kernel that `CLikeRenderer` wrote takes them: 8 bytes each, little-endian.

    A value stands first in its bytes, in its own dtype; a bool is a byte of 0 or 1. A float beyond the range
    of its dtype is an infinity.
    """
    return b"".join([_bits(value, dtype).to_bytes(8, "little") for value, dtype in zip(values, dtypes)])


def _bits(value: Scalar, dtype: DType) -> int:
    if dtype.is_float:
        return float_bits(float(value), dtype)
    return int(value) & ((1 << 8 * dtype.itemsize) - 1)

"""For devices whose memory is the process's own: an allocator, ready to use. Importing it loads no NumPy."""
from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pluggrad.device.contract import Allocator
from pluggrad.errors import OutOfMemoryError

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

    def host_view(self, allocation: Bytes) -> memoryview:
        """The memory itself."""
        return allocation.data

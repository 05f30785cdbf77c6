"""Binaries with a digest: a driver crashes on bytes that are not what it wrote, so they are checked."""
from __future__ import annotations

import hashlib
from typing import Final

from pluggrad.plugin_api import KernelFault

_MAGIC: Final = b"pluggrad-opencl\x00"
_HEADER: Final = len(_MAGIC) + hashlib.sha256().digest_size


def sealed(program: bytes) -> bytes:
    """A driver's binary behind a header that holds its digest."""
    return _MAGIC + hashlib.sha256(program).digest() + program


def unsealed(binary: bytes) -> bytes:
    """The driver's binary; KernelFault unless the bytes are whole and come from `sealed`."""
    program = binary[_HEADER:]
    if binary[:_HEADER] != _MAGIC + hashlib.sha256(program).digest():
        raise KernelFault(op="load", expected="a binary that this plugin made, as it was made",
                          got=f"{len(binary)} other bytes")
    return program

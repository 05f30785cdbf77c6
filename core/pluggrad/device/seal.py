"""Binaries with a digest: drivers and systems crash on code that is damaged, where they should refuse it."""
from __future__ import annotations

import hashlib
from typing import Final

from pluggrad.errors import KernelFault

_MAGIC: Final = b"pluggrad binary\0"
_HEADER_BYTES: Final = len(_MAGIC) + hashlib.sha256().digest_size


def seal(code: bytes) -> bytes:
    """Code as a binary: behind a header with its digest, by which `unseal` knows that it is whole."""
    return _MAGIC + hashlib.sha256(code).digest() + code


def unseal(binary: bytes) -> bytes:
    """The code in a binary; KernelFault unless it is what `seal` gave, to the last byte."""
    code = binary[_HEADER_BYTES:]
    if binary[:_HEADER_BYTES] != _MAGIC + hashlib.sha256(code).digest():
        raise KernelFault(op="load", expected="a sealed binary, as it was made",
                          got=f"{len(binary)} other bytes")
    return code

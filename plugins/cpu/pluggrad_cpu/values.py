"""Run-time values as kernels read them: each in its own dtype at the start of an 8-byte slot."""
from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from pluggrad.plugin_api import DType, Scalar, dtypes

# one slot each; bfloat16 is passed as its bits
_FORMATS: Final = {
    "bool": "?7x", "uint8": "B7x", "uint16": "H6x", "uint32": "I4x", "uint64": "Q",
    "int8": "b7x", "int16": "h6x", "int32": "i4x", "int64": "q",
    "float16": "e6x", "bfloat16": "H6x", "float32": "f4x", "float64": "d",
}


def bfloat16_bits(value: Scalar) -> int:
    """The bfloat16 nearest to `value` (ties to even), as its 16 bits."""
    if math.isnan(value):
        return 0x7FC0
    bits = int.from_bytes(struct.pack("<f", _fit(value, dtypes.float32)), "little")
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def _fit(value: Scalar, dtype: DType) -> Scalar:
    """`value` as `struct` takes it: floats beyond the range become infinite, integers wrap."""
    value = dtypes.cast_scalar(value, dtype)
    if dtype.kind != "f":
        return value
    try:
        struct.pack("<" + _FORMATS[dtype.name], value)
    except OverflowError:
        return math.copysign(math.inf, value)
    return value


class ValuePacker:
    """Packs one list's values."""

    def __init__(self, value_dtypes: Sequence[DType]) -> None:
        self._dtypes = tuple(value_dtypes)
        layout = "<" + "".join(_FORMATS[d.name] for d in self._dtypes)
        self._pack: Callable[..., None] = struct.Struct(layout).pack_into
        self._plain = dtypes.bfloat16 not in self._dtypes

    def pack_into(self, memory: Any, offset: int, values: Sequence[Scalar]) -> None:
        """Write the values, in the order of the dtypes, at a byte offset of writable memory."""
        if self._plain:
            try:
                return self._pack(memory, offset, *values)
            except (struct.error, OverflowError):  # some value is not of its dtype as it stands
                pass
        self._pack(memory, offset, *map(_encode, values, self._dtypes))


def _encode(value: Scalar, dtype: DType) -> Scalar:
    return bfloat16_bits(value) if dtype is dtypes.bfloat16 else _fit(value, dtype)

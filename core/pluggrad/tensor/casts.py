"""Casts by the name of the dtype. Their names hide built-ins, so they stand by themselves."""
from __future__ import annotations

from typing import Self

from pluggrad import dtypes
from pluggrad.tensor.mathematics import Mathematics


class Casts(Mathematics):
    """`x.float()` is `x.cast(dtypes.float32)`, and so on; see `cast` for how values convert."""

    __slots__ = ()

    def half(self) -> Self:
        """The values in float16."""
        return self.cast(dtypes.float16)

    def bfloat16(self) -> Self:
        """The values in bfloat16."""
        return self.cast(dtypes.bfloat16)

    def float(self) -> Self:
        """The values in float32."""
        return self.cast(dtypes.float32)

    def double(self) -> Self:
        """The values in float64."""
        return self.cast(dtypes.float64)

    def short(self) -> Self:
        """The values in int16."""
        return self.cast(dtypes.int16)

    def int(self) -> Self:
        """The values in int32."""
        return self.cast(dtypes.int32)

    def long(self) -> Self:
        """The values in int64."""
        return self.cast(dtypes.int64)

    def bool(self) -> Self:
        """True where not zero."""
        return self.cast(dtypes.bool_)

"""What this namespace can do, for programs that ask."""
from __future__ import annotations

from typing import Any

from pluggrad import dtypes as _dtypes
from pluggrad.array_api.arguments import INDEX
from pluggrad.array_api.data_types import STANDARD, isdtype
from pluggrad.device.registry import REGISTRY
from pluggrad.dtypes import DType
from pluggrad.runtime.devices import Device


class Info:
    """What `__array_namespace_info__()` returns."""

    def capabilities(self) -> dict[str, Any]:
        """Boolean masks and shapes that depend on values work; the number of axes has no limit.

        There is no extension `fft`, and no complex dtype.
        """
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": None}

    def default_device(self) -> str:
        """Where new arrays are."""
        return Device.DEFAULT

    def devices(self) -> list[str]:
        """The devices that are there."""
        return list(Device.available())

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType | None]:
        """The dtypes of Python numbers, and of positions; None for complex numbers."""
        return {"real floating": _dtypes.default_float, "complex floating": None,
                "integral": _dtypes.default_int, "indexing": INDEX}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """Dtypes of the standard that a device has, of a kind as `isdtype` has it.

        float16 and bfloat16, which the standard does not name, are there besides (`pluggrad.dtypes`).
        """
        held = REGISTRY.target(REGISTRY.resolve(device)).capabilities.dtypes
        return {dtype.name: dtype for dtype in STANDARD
                if dtype.name in held and (kind is None or isdtype(dtype, kind))}


def __array_namespace_info__() -> Info:
    """What this namespace can do."""
    return Info()

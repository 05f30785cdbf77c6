"""Values as text: shortened as NumPy does, with dtype and device."""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pluggrad.dtypes import DType


def values_text(array: npt.NDArray[Any], indent: int) -> str:
    """The elements, with the rows after the first set in by `indent`."""
    if array.size == 0:
        return "[]" if array.ndim == 1 else f"[] of shape {array.shape}"
    return np.array2string(array, separator=", ", prefix=" " * indent)


def tensor_text(array: npt.NDArray[Any] | None, shape: tuple[int, ...], dtype: DType, device: str) -> str:
    """`Tensor([1., 2.], dtype=float32, device=ref)`; `array` None is a value that is not computed."""
    values = "<not computed>" if array is None else values_text(array, len("Tensor("))
    parts = [
        values,
        f"shape={shape}" if array is None else "",
        f"dtype={dtype.name}",
        f"device={device}",
    ]
    return f"Tensor({', '.join(part for part in parts if part)})"

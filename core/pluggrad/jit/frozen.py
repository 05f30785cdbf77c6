"""What a capture remembers of the arguments and results that are no tensors."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pluggrad.errors import JitError


def frozen(where: str) -> Callable[[Any], Any]:
    """Tells a hashable Python value from others; JitError, which calls it an `where`, for one that is not."""

    def distinct(value: Any) -> Any:
        try:
            hash(value)
        except TypeError as error:
            raise JitError(op="jit", got=type(value).__name__, hint="Make arrays tensors: Tensor(array)",
                           expected=f"an {where} of tensors, hashable values and lists, tuples or dicts of "
                                    "them") from error
        sign = math.copysign(1.0, value) if isinstance(value, float) else 0.0  # 0.0 and -0.0 compare equal
        return type(value), sign

    return distinct

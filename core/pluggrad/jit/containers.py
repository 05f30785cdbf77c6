"""Nested arguments and results: tensors are taken out of lists, tuples and dictionaries, and put back."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pluggrad.errors import JitError
from pluggrad.tensor import Tensor

_TENSOR, _LIST, _DICT, _VALUE = "tensor", "list", "dict", "value"


def flatten(value: Any, tensors: list[Tensor], where: str = "argument") -> Any:
    """A hashable description of `value` in which each tensor is its position in `tensors`, which grows."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _TENSOR, len(tensors) - 1
    if isinstance(value, (list, tuple)):
        return _LIST, type(value), tuple([flatten(v, tensors, where) for v in value])
    if isinstance(value, dict):
        return _DICT, type(value), tuple([(key, flatten(v, tensors, where)) for key, v in value.items()])
    try:
        hash(value)
    except TypeError as error:
        raise JitError(op="jit",
                       expected=f"an {where} of tensors, hashable values and lists, tuples or dicts of them",
                       got=type(value).__name__, hint="Make arrays tensors: Tensor(array)") from error
    sign = math.copysign(1.0, value) if isinstance(value, float) else 0.0  # 0.0 and -0.0 compare equal
    return _VALUE, type(value), value, sign


def rebuild(description: Any, tensor: Callable[[int], Tensor]) -> Any:
    """The value of a description, with `tensor(position)` for each tensor."""
    form, kind = description[:2]
    if form == _TENSOR:
        return tensor(kind)
    if form == _VALUE:
        return description[2]
    if form == _DICT:
        made = kind.__new__(kind)
        made.update((key, rebuild(v, tensor)) for key, v in description[2])
        return made
    items = [rebuild(v, tensor) for v in description[2]]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)

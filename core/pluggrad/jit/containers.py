"""Nested arguments and results: tensors are taken out of lists, tuples and dictionaries, and put back."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pluggrad.errors import JitError
from pluggrad.tensor import Tensor


def flatten(value: Any, tensors: list[Tensor], where: str = "argument") -> Any:
    """A hashable description of `value` in which each tensor is its position in `tensors`, which grows."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return Tensor, len(tensors) - 1
    if isinstance(value, (list, tuple)):
        names = getattr(value, "_fields", None)
        return type(value), names, tuple([flatten(v, tensors, where) for v in value])
    if isinstance(value, dict):
        return dict, tuple([(key, flatten(v, tensors, where)) for key, v in value.items()])
    try:
        hash(value)
    except TypeError as error:
        raise JitError(op="jit", expected=f"an {where} of tensors, hashable values and lists, tuples or dicts of them",
                       got=type(value).__name__, hint="Make arrays tensors: Tensor(array)") from error
    return type(value), value


def rebuild(description: Any, tensor: Callable[[int], Tensor]) -> Any:
    """The value of a description, with `tensor(position)` for each tensor."""
    kind = description[0]
    if kind is Tensor:
        return tensor(description[1])
    if kind is dict:
        return {key: rebuild(v, tensor) for key, v in description[1]}
    if len(description) == 3:
        items = [rebuild(v, tensor) for v in description[2]]
        return kind(*items) if description[1] else kind(items)
    return description[1]

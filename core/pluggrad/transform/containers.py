"""Nested arguments and results: tensors are taken out of lists, tuples, dicts and objects, and put back."""
from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any, Final

from pluggrad.tensor import Tensor

_TENSOR, _LIST, _DICT, _OBJECT, _VALUE = "tensor", "list", "dict", "object", "value"
ONE_TENSOR: Final = (_TENSOR, 0)  # the description of what is a tensor and nothing else
_PLAIN: Final = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def flatten(value: Any, tensors: list[Tensor],
            plain: Callable[[Any], tuple[Any, ...]] | None = None) -> Any:
    """A description of `value` in which each tensor is its position in `tensors`, which grows.

    plain: describes what is no container, by a value to stand there and what else tells it from others; None:
    by itself, but tensors are taken out of the attributes of objects.
    """
    if isinstance(value, Tensor):
        tensors.append(value)
        return _TENSOR, len(tensors) - 1
    if isinstance(value, (list, tuple)):
        return _LIST, type(value), tuple([flatten(v, tensors, plain) for v in value])
    if isinstance(value, dict):
        return _DICT, type(value), tuple([(key, flatten(v, tensors, plain)) for key, v in value.items()])
    if plain is not None:
        return _VALUE, *plain(value)
    if holds_tensors(value):
        parts = tuple([(name, flatten(v, tensors)) for name, v in vars(value).items() if holds_tensors(v)])
        return _OBJECT, value, parts
    return _VALUE, value


def rebuild(description: Any, tensor: Callable[[int], Any]) -> Any:
    """The value of a description, with `tensor(position)` for each tensor; objects are copied."""
    form, kind = description[:2]
    if form == _TENSOR:
        return tensor(kind)
    if form == _VALUE:
        return kind
    if form == _OBJECT:
        made = object.__new__(type(kind))
        vars(made).update(vars(kind))
        vars(made).update((name, rebuild(part, tensor)) for name, part in description[2])
        return made
    if form == _DICT:
        made = kind.__new__(kind)
        made.update((key, rebuild(v, tensor)) for key, v in description[2])
        return made
    items = [rebuild(v, tensor) for v in description[2]]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def holds_tensors(value: Any) -> bool:
    """Whether a tensor is, or is reached through containers and attributes from, `value`."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, Tensor):
            return True
        if id(part) not in seen:
            seen.add(id(part))
            stack.extend(_parts(part))
    return False


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, dict):
        return value.values()
    return () if isinstance(value, _PLAIN) else getattr(value, "__dict__", {}).values()


def leaves(value: Any) -> list[Any]:
    """Tensors, and what else is no container, in the order in which `flatten` finds them."""
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in leaves(part)]
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if not isinstance(value, Tensor) and holds_tensors(value):
        return [leaf for part in vars(value).values() if holds_tensors(part) for leaf in leaves(part)]
    return [value]

"""Tensors that a function reaches without being given them: variables, globals that it names, its object.

They are stored before a capture, each in a version of its own. Then the graph of one is not mistaken for work
of the function, and every replay finds its value through its handle.
"""
from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from weakref import ref

from pluggrad import runtime
from pluggrad.tensor import Tensor

_OURS = __name__.partition(".")[0]  # the library's own functions reach no tensors of the user
_OPAQUE = (type, types.ModuleType, types.BuiltinFunctionType, str, bytes, int, float, complex, type(None))


def store(function: Callable[..., Any], arguments: Iterable[Tensor]) -> None:
    """Realize what `function` reaches, gradients of that and of the arguments, and all that is pending."""
    tensors = list(reached(function))
    tensors += [t._grad for t in (*tensors, *arguments) if isinstance(t._grad, Tensor)]
    if tensors:
        Tensor.realize(*tensors)
    runtime.realize_pending()
    for tensor in tensors:
        runtime.own(tensor)


def reached(function: Any) -> Iterator[Tensor]:
    """Every tensor in reach of a function, or of several in a tuple; iterative, each object once."""
    seen: dict[int, Any] = {}
    stack: list[Any] = [function]
    while stack:
        part = stack.pop()
        if isinstance(part, _OPAQUE) or id(part) in seen:
            continue
        seen[id(part)] = part
        if isinstance(part, Tensor):
            yield part
        else:
            stack.extend(_parts(part))


def _parts(part: Any) -> Iterator[Any]:
    if isinstance(part, types.FunctionType):
        if part.__module__.partition(".")[0] != _OURS:
            yield from _variables(part)
        yield getattr(part, "__wrapped__", None)
    elif hasattr(part, "__wrapped__"):
        yield part.__wrapped__
        yield from [value for value in vars(part).values() if isinstance(value, types.FunctionType)]
    elif isinstance(part, ref):
        yield part()
    elif isinstance(part, types.MethodType):
        yield from (part.__self__, part.__func__)
    elif isinstance(part, Mapping):
        yield from list(part.values())
    elif isinstance(part, (list, tuple, set, frozenset)):
        yield from part
    else:
        yield from list(getattr(part, "__dict__", {}).values())


def _variables(function: types.FunctionType) -> Iterator[Any]:
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    names = set(_names(function.__code__))
    yield from [value for name, value in function.__globals__.items() if name in names]


def _names(code: types.CodeType) -> Iterator[str]:
    """Global names that the code and the functions inside it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)

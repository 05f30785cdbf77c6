"""The tensors inside a model: by name, as a list, moved, loaded.

A model is any object: tensors are found in its attributes and in lists, tuples and dictionaries there, at any
depth. Names are paths joined by dots, as in "layers.0.weight".
"""
from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any

from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, StateError
from pluggrad.jit import CapturedFunction, CapturedMethod
from pluggrad.target import DeviceId
from pluggrad.tensor import Tensor

# values with attributes of their own that are no part of a model
_OPAQUE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType,
           CapturedFunction, CapturedMethod)


def walk(model: object, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of `model` with its name, `model` first; an object that contains itself is entered once."""
    yield from _walk(model, name, frozenset())


def _walk(part: object, name: str, above: frozenset[int]) -> Iterator[tuple[str, Any]]:
    yield name, part
    if isinstance(part, Tensor) or id(part) in above:
        return
    for key, child in parts(part):
        yield from _walk(child, f"{name}.{key}" if name else key, above | {id(part)})


def parts(part: object) -> Iterator[tuple[str, Any]]:
    """What `part` directly contains, with its key, index or attribute name."""
    if isinstance(part, Mapping):
        yield from ((str(key), child) for key, child in part.items())
    elif isinstance(part, tuple) and hasattr(part, "_fields"):
        yield from zip(part._fields, part, strict=True)
    elif isinstance(part, list | tuple):
        yield from ((str(index), child) for index, child in enumerate(part))
    elif not isinstance(part, _OPAQUE):
        yield from getattr(part, "__dict__", {}).items()


def get_state_dict(model: object, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor of `model` by name; a tensor that is reached twice has two names."""
    return {name: part for name, part in walk(model, prefix.strip(".")) if isinstance(part, Tensor)}


def get_parameters(model: object) -> list[Tensor]:
    """Every tensor of `model`, each once, in the order of the state dict."""
    return list({id(tensor): tensor for tensor in get_state_dict(model).values()}.values())


def is_parameter(tensor: Tensor) -> bool:
    """Whether an optimizer would change it: float, and not made or set to be `requires_grad=False`."""
    return tensor.dtype.is_float and not tensor._frozen


def named_modules(model: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The layers in `model` and `model` itself, each once, with the first of its names.

    A layer is what can be called, but for tensors and functions; lists and dictionaries are passed through.
    """
    seen: set[int] = set()
    for name, part in walk(model, prefix.strip(".")):
        if part is model or _is_module(part):
            if id(part) not in seen:
                yield name, part
            seen.add(id(part))


def _is_module(part: object) -> bool:
    return callable(part) and not isinstance(part, (Tensor, *_OPAQUE))


def to_dtype(model: object, dtype: DType) -> None:
    """Cast every float tensor of `model`, of any object, to a float dtype, in place; gradients are dropped.

    DTypeError unless the dtype is float. An optimizer is made after this: it keeps its averages for a dtype.
    """
    if not dtype.is_float:
        raise DTypeError(op="to", expected="a float dtype for a model", got=dtype.name)
    for tensor in get_parameters(model):
        if tensor.dtype.is_float and tensor.dtype is not dtype:
            tensor.grad = None
            tensor.replace(tensor.detach().cast(dtype))


def to_device(model: object, device: str | DeviceId) -> None:
    """Move every tensor of `model`, of any object, in place, each with its gradient.

    An optimizer over these tensors goes on with them. If one cannot be moved, none is: UnknownDevice or
    DeviceUnavailable for the device, UnsupportedDType for a dtype that it lacks.
    """
    tensors = get_parameters(model)
    for tensor in tensors:
        tensor.to(device)  # what it would refuse, it refuses before the first is moved
    for tensor in tensors:
        tensor.to_(device)


def load_state_dict(model: object, state_dict: Mapping[str, Tensor], strict: bool = True) -> None:
    """Give the tensors of `model` the values in `state_dict`, on the devices where they are now.

    Shapes and dtypes must be the same. StateError lists every name that is missing, unexpected, misshapen or
    of another dtype, and nothing is changed then. With `strict=False` names may be missing or unexpected.
    """
    own = get_state_dict(model)
    problems = [*_differing_names(own, state_dict)] if strict else []
    problems += _differing_types(own, state_dict)
    if problems:
        listed = "\n  ".join(["a state dict that differs:", *problems])
        raise StateError(op="load_state_dict", expected=f"the {len(own)} tensors of {type(model).__name__}",
                         got=f"{listed}\nNothing was loaded")
    targets = [(tensor, state_dict[name]) for name, tensor in own.items() if name in state_dict]
    if not targets:
        return
    # every value is computed before the first is assigned: what can fail, fails while the model is whole
    values = [value.detach().to(target.device) for target, value in targets]
    Tensor.realize(*values)
    for (target, _), value in zip(targets, values, strict=True):
        target.assign(value)
    Tensor.realize(*(target for target, _ in targets))


def _differing_names(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[str]:
    for name in [name for name in own if name not in given]:
        yield f"missing: {name}, {_described(own[name])}"
    for name in [name for name in given if name not in own]:
        yield f"unexpected: {name}, {_described(given[name])}"


def _differing_types(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in own.items():
        value = given.get(name)
        if value is None:
            continue
        if value.shape != tensor.shape:
            yield f"misshapen: {name}, expected {tensor.shape}, got {value.shape}"
        if value.dtype is not tensor.dtype:
            yield f"wrong dtype: {name}, expected {tensor.dtype.name}, got {value.dtype.name}"


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype.name} {tensor.shape}"

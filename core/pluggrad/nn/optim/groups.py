"""Groups of tensors that share hyperparameters, and what optimizers take as tensors."""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from pluggrad.errors import ValueRangeError
from pluggrad.graph import scalar
from pluggrad.graph.scalar import Derive, HostRead, HostValue
from pluggrad.nn.state.tensors import get_parameters, is_parameter
from pluggrad.tensor import Tensor

_SHARES = frozenset({"b1", "b2", "alpha", "rho"})  # of a running average that the past keeps


class ParamGroup(MutableMapping[str, Any]):
    """Tensors and the options of their optimizer, as a mapping: `group["lr"] = 0.01`.

    A new number holds from the next step on, in captured functions too, unless it turns a part of the step on
    or off (a weight decay that was 0): that, and options that are no numbers, is frozen by a capture.
    ValueRangeError for a number that makes no sense, KeyError for an option that the optimizer lacks.
    """

    def __init__(self, op: str, params: list[Tensor], options: Mapping[str, Any]) -> None:
        self._op, self.params = op, params
        self._hosts: dict[str, HostValue] = {}
        self._others: dict[str, Any] = {}
        for name, value in options.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number:
                check(op, name, value)
                self._hosts[name] = HostValue(float(value), name)
            else:
                self._others[name] = value
        self._shown = repr(self._others)

    def host(self, name: str) -> HostValue:
        """The host value behind a number."""
        return self._hosts[name]

    def read(self, *names: str, through: Derive | None = None) -> HostRead:
        """One reading of numbers, through a function if there are several."""
        return scalar.read(tuple([self._hosts[name] for name in names]), through)

    def read_after(self, count: HostValue, *names: str, through: Derive) -> HostRead:
        """One reading of a step count and numbers, through a function of all of them."""
        return scalar.read((count, *[self._hosts[name] for name in names]), through)

    def switches(self) -> tuple[Any, ...]:
        """What decides which parts of a step there are: which numbers are 0, and all that is no number."""
        return *[host.value == 0 for host in self._hosts.values()], self._shown

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return self.params
        found = self._hosts.get(name)
        return self._others[name] if found is None else found.value

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self._hosts:
            check(self._op, name, value)
            self._hosts[name].value = float(value)
        elif name in self._others:
            self._others[name] = value
            self._shown = repr(self._others)
        else:
            raise KeyError(f"{self._op} has no option {name!r}, but {', '.join(self.options())}")

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{self._op}: options of a group cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(("params", *self.options()))

    def __len__(self) -> int:
        return 1 + len(self._hosts) + len(self._others)

    def options(self) -> dict[str, Any]:
        """All but the tensors."""
        return {**{name: host.value for name, host in self._hosts.items()}, **self._others}

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options().items())
        return f"ParamGroup({len(self.params)} tensors, {options})"


def check(op: str, name: str, value: Any) -> None:
    """ValueRangeError for a negative number, infinity or NaN, and for shares from 1 on."""
    if not 0 <= value < math.inf:
        raise ValueRangeError(op=op, expected=f"a finite {name} of at least 0", got=str(value))
    if name in _SHARES and value >= 1:
        raise ValueRangeError(op=op, expected=f"{name} from 0 to below 1", got=str(value))


def groups(op: str, params: object, defaults: Mapping[str, Any]) -> list[ParamGroup]:
    """The groups in `params`: a list of dictionaries with the key "params", or anything else as one group."""
    given = list(params) if isinstance(params, Iterator) else params
    several = isinstance(given, list | tuple) and bool(given) and all(_is_group(each) for each in given)
    parts: Any = given if several else [{"params": given}]
    made = []
    for part in parts:
        unknown = sorted(set(part) - {"params"} - set(defaults))
        if unknown:
            raise ValueRangeError(op=op, expected=f"options of a group among {', '.join(defaults)}",
                                  got=", ".join(unknown))
        options = {name: value for name, value in part.items() if name != "params"}
        made.append(ParamGroup(op, _trainable(part["params"]), {**defaults, **options}))
    _check_tensors(op, made)
    return made


def _is_group(given: object) -> bool:
    return isinstance(given, Mapping) and "params" in given


def _check_tensors(op: str, made: list[ParamGroup]) -> None:
    tensors = [id(tensor) for group in made for tensor in group.params]
    if not tensors:
        raise ValueRangeError(op=op, expected="at least one float tensor to change", got="none",
                              hint="pass a module or a list of tensors")
    if len(set(tensors)) < len(tensors):
        raise ValueRangeError(op=op, expected="each tensor in one group", got="one that is in two")


def _trainable(params: object) -> list[Tensor]:
    """The float tensors in `params`, each once and marked; those that are `requires_grad=False` stay out."""
    found = get_parameters(list(params) if isinstance(params, Iterator) else params)
    return [tensor.requires_grad_() for tensor in found if is_parameter(tensor)]

"""Indexing in both directions. Integers, slices, None and Ellipsis give views; integer tensors, lists, arrays
and masks select and scatter."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import TensorIndexError
from pluggrad.graph import build
from pluggrad.ir.node import Node
from pluggrad.tensor.base import is_view_of_same
from pluggrad.tensor.index_keys import OP, Key, Mask, parse_key, selection, view_steps
from pluggrad.tensor.reduction import Reduction
from pluggrad.tensor.variable import Window, has_variables, positions, without_variables


class Indexing(Reduction):
    """`x[...]` in both directions."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Self:
        if has_variables(key):
            return self._at_variables(key)
        x = self.node
        parsed = parse_key(key, x)
        if parsed.selects:
            return self._new(selection(parsed, x.shape, x.device).read(x))
        steps = view_steps(parsed.entries, x.shape)
        return self._view(build.move(x, steps), *steps)

    def __setitem__(self, key: Any, value: Any) -> None:
        if has_variables(key):
            self._write_at_variable(key, value)
            return
        x = self.node
        parsed = parse_key(key, x)
        if not parsed.selects:
            steps = view_steps(parsed.entries, x.shape)
            if not is_view_of_same(value, self, steps):
                self._write(self._value_to_write(value), steps)
            return
        written = self._value_to_write(value)
        build.same_device("setitem", x, written)
        masked = _masked(parsed, x, written)
        if masked is not None:
            self._write(masked, view_steps(parsed.basic, x.shape))
            return
        chosen = selection(parsed, x.shape, x.device, writes=True)
        self._write(written, write=chosen.write)

    def _at_variables(self, key: Any) -> Self:
        rest, windows = without_variables(key, self.ndim)
        result = self[rest]
        for window in reversed(windows):  # the last first: one without a size removes its axis
            result = result[self._selecting(window, result)]
        return result

    def _write_at_variable(self, key: Any, value: Any) -> None:
        rest, windows = without_variables(key, self.ndim)
        if len(windows) > 1:
            raise TensorIndexError(op=OP, expected="one Variable where is written", got=str(len(windows)))
        view = self[rest]
        view[self._selecting(windows[0], view)] = value

    def _selecting(self, window: Window, view: Self) -> tuple[Any, ...]:
        """The key of what a variable selects of a view."""
        chosen = positions(window, view.shape[window.axis], view.node.device)
        return (*[slice(None)] * window.axis, self._of(chosen))

    def _value_to_write(self, value: Any) -> Any:
        x = self.node
        if isinstance(value, Reduction):
            return value.node
        if isinstance(value, (int, float)):
            dtypes.weak_result(x.dtype, value, "setitem")  # an integer has to fit
            return build.const(value, x.dtype, x.device)
        return self._from_data(value, None, x.device, False).node

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Self]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(self.shape[0]))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())


def _masked(key: Key, x: Node, value: Node) -> Node | None:
    """The view of `key` after one value for all that a single mask selects, chosen without counting it; None
    where the key holds other than a mask, or each element takes a value of its own."""
    found = key.selected()
    if len(found) != 1 or key.apart or not isinstance(found[0][2], Mask):
        return None
    axis, _, mask = found[0]
    view = build.move(x, view_steps(key.basic, x.shape))
    masked = max(1, len(mask.shape))
    after = len(view.shape) - axis - masked
    if len(value.shape) > after and value.shape[-after - 1] != 1:
        return None
    if len(value.shape) > after:  # its one place for what is selected becomes one for each axis of the mask
        place = len(value.shape) - after - 1
        value = build.reshape(value, (*value.shape[:place], *(1,) * masked, *value.shape[place + 1:]))
    truth = mask.on(x.device)
    truth = build.reshape(truth, (*(mask.shape or (1,)), *(1,) * after))
    chosen = build.where(truth, build.cast(value, x.dtype), view)
    return build.broadcast_to(chosen, view.shape, OP)

"""Transformations in progress: what a function that one of them calls does besides returning something."""
from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import ref

from pluggrad.errors import TransformError
from pluggrad.ir.node import Node


class Trace:
    """One call of a function by the transformation `op`, in one thread.

    draws: the random bits that were drawn. draws_allowed: otherwise drawing raises TransformError.
    """

    def __init__(self, op: str, draws_allowed: bool = True) -> None:
        self.op, self.draws_allowed = op, draws_allowed
        self.draws: list[Node] = []
        self._written: dict[int, tuple[ref[Any], Node, Any]] = {}

    def drawn(self, bits: Node) -> None:
        """Note a draw."""
        if not self.draws_allowed:
            raise TransformError(op=self.op, expected="no random numbers inside the function", got="a draw",
                                 hint="Say what it means for a batch: randomness='different' or 'same'")
        self.draws.append(bits)

    def writing(self, tensor: Any) -> None:
        """Note what a tensor holds before it is written to for the first time."""
        known = self._written.get(id(tensor))
        if known is None or known[0]() is not tensor:
            self._written[id(tensor)] = ref(tensor), tensor._node, tensor._identity

    def refuse_written(self, concerned: Callable[[Node], bool]) -> None:
        """TransformError if a tensor that outlives the call was written to and now holds what is `concerned`.

        All of them hold again what they held before.
        """
        for attempt in (1, 2):
            left = [(tensor, node, identity) for weak, node, identity in self._written.values()
                    if (tensor := weak()) is not None and concerned(tensor.node)]
            if not left:
                return
            if attempt == 1:
                del left
                gc.collect()  # what the function made for itself may wait for that
        tensor = left[0][0]
        for tensor, node, identity in left:
            tensor._node, tensor._identity = node, identity
            if identity is not None:
                identity.handle = ref(tensor)
        raise TransformError(op=self.op, expected="a function that only returns something",
                             got=f"an assignment to a tensor of shape {tensor.shape} from outside of it",
                             hint="Return the new value and assign it outside")


class _Active(threading.local):
    traces: tuple[Trace, ...] = ()


active: Final = _Active()


@contextmanager
def traced(trace: Trace) -> Iterator[Trace]:
    """While `trace` is told of what this thread does."""
    before = active.traces
    active.traces = (*before, trace)
    try:
        yield trace
    finally:
        active.traces = before

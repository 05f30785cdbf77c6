"""anomaly(): which operation first made a NaN."""
from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final
from weakref import WeakKeyDictionary

from pluggrad import runtime
from pluggrad.errors import AnomalyError, JitError, caller_line
from pluggrad.graph import build, ops, origin
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.runtime import realization as realizing
from pluggrad.tensor import Tensor

_AT_ONCE = 32  # values that are looked at in one run, in the order in which they are computed
# what gives on what it was given
_PASSING: Final = ops.MOVEMENT | {ops.LEAF, ops.DETACH, ops.CONTIGUOUS, ops.CUSTOM_VJP, ops.BARRIER, ops.COPY}


class anomaly:
    """Find the operation that first makes a NaN: `with pluggrad.anomaly():` around a step of training.

    Whatever is computed inside is looked at. If a NaN reaches a result, AnomalyError names the operation that
    made the first one, or in whose gradient it came up, and the line of your program that asked for it. A NaN
    that `where` leaves out is fine. inf: look for infinities as well. It holds for the thread that enters it;
    captured functions (`jit`) run uncaptured inside. It costs time and memory: it is for finding mistakes.

        with pluggrad.anomaly():
            loss = model(x).log().mean()
            loss.backward()
            optimizer.step()
    """

    def __init__(self, inf: bool = False) -> None:
        self._inf = inf
        self._origins: WeakKeyDictionary[Node, str | Node] = WeakKeyDictionary()  # a line, or whose gradient
        self._before: list[Any] = []
        self._thread = 0

    def __enter__(self) -> anomaly:
        if runtime.capturing():
            raise JitError(op="anomaly", expected="to be entered outside of captured functions",
                           got="one inside", hint="Put it around the call, which then runs uncaptured")
        self._before = [origin.operation, origin.gradient, realizing.inspecting]
        self._thread = threading.get_ident()
        origin.operation, origin.gradient = self._operation, self._gradient
        realizing.inspecting = self._inspect
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        origin.operation, origin.gradient, realizing.inspecting = self._before

    # ---- what was made where -------------------------------------------------------------------------------
    def _operation(self, node: Node) -> None:
        if threading.get_ident() == self._thread:
            self._origins.setdefault(node, caller_line())

    def _gradient(self, gradient: Node, of: Node) -> None:
        if threading.get_ident() == self._thread:
            self._origins.setdefault(gradient, of)

    # ---- what was computed ---------------------------------------------------------------------------------
    def _inspect(self, roots: list[Node]) -> None:
        """AnomalyError if a value among those just stored is not a number."""
        if threading.get_ident() != self._thread:
            return
        realizing.inspecting = None  # what is computed here is not looked at
        try:
            if self._bad([n for n in roots if _counts(n)]) is not None:
                self._raise_first(roots)
        finally:
            realizing.inspecting = self._inspect

    def _bad(self, nodes: Sequence[Node]) -> Node | None:
        """The first of `nodes` with an anomaly in its value."""
        for start in range(0, len(nodes), _AT_ONCE):
            some = nodes[start:start + _AT_ONCE]
            flags = [Tensor._of(self._flag(n)) for n in some]
            realizing.realize(flags)
            for n, flag in zip(some, flags, strict=True):
                if runtime.read(flag.node):
                    return n
        return None

    def _flag(self, n: Node) -> Node:
        """Whether any element is an anomaly."""
        found = build.binary(ops.NE, n, n)
        if self._inf:
            infinity = build.const(float("inf"), n.dtype, n.device)
            found = build.binary(ops.OR, found, build.binary(ops.EQ, build.unary(ops.ABS, n), infinity))
        return build.reduce(ops.RMAX, found)

    def _raise_first(self, roots: Sequence[Node]) -> None:
        order = toposort(roots)
        first = self._bad([n for n in order if _counts(n) and n.op not in _PASSING])
        if first is None:  # it was stored before, and is overwritten by now
            return
        if first.op is ops.BUFFER:
            made = f"a tensor of shape {first.shape} that holds it from before"
        else:
            made = f"one made by {first.op.name.lower()}, {self._described(first, order)}"
        wanted = "no NaN or infinity" if self._inf else "no NaN"
        raise AnomalyError(op="anomaly", expected=wanted, got=made)

    def _described(self, first: Node, order: Sequence[Node]) -> str:
        """The origin of a node, or of what it was made for."""
        reached = {first}
        for n in order:
            if n is not first and reached.isdisjoint(n.src):
                continue
            reached.add(n)
            found = self._origins.get(n)
            if isinstance(found, str):
                return f"asked for at {found}"
            if found is not None:
                return f"in the gradient of {found.op.name.lower()}, {self._described(found, order)}"
        return "asked for outside of anomaly()"


def _counts(n: Node) -> bool:
    """Whether a value can be an anomaly."""
    return n.dtype.is_float and n.type.size > 0 and n.op is not ops.VJP_CALL

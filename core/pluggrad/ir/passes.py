"""An ordered list of passes that can be timed, dumped and verified."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
Context = TypeVar("Context")


@dataclass(frozen=True, slots=True)
class Pass(Generic[Value, Context]):
    """`function(value, context)` gives the new value; `reason` says why it stands where it does."""

    name: str
    reason: str
    function: Callable[[Value, Context], Value]


@dataclass(frozen=True, slots=True)
class Record:
    """What one pass did: seconds it took, and the value after it as text ("" unless asked for)."""

    name: str
    seconds: float
    text: str


@dataclass(slots=True)
class Trace:
    """Collects a record for each pass that runs.

    `dump` turns a value into text, for `explain`; `verify(value, pass name)` raises VerifyError where a pass
    broke its stage's grammar.
    """

    dump: Callable[[Any], str] | None = None
    verify: Callable[[Any, str], None] | None = None
    records: list[Record] = field(default_factory=list)

    def step(self, name: str, function: Callable[[], Value]) -> Value:
        """What `function` returns, with a record of it: timed, then verified, then dumped."""
        start = perf_counter()
        value = function()
        seconds = perf_counter() - start
        if self.verify:
            self.verify(value, name)
        self.records.append(Record(name, seconds, self.dump(value) if self.dump else ""))
        return value


@dataclass(frozen=True, slots=True)
class PassList(Generic[Value, Context]):
    """Passes in the order in which they run."""

    passes: Sequence[Pass[Value, Context]]

    def run(self, value: Value, context: Context, trace: Trace | None = None) -> Value:
        """The value after all passes. Without a trace nothing is timed, printed or verified."""
        for each in self.passes:
            if trace is None:
                value = each.function(value, context)
            else:
                value = trace.step(each.name, partial(each.function, value, context))
        return value

"""An ordered list of passes that can be timed, dumped and verified."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class PassList(Generic[Value, Context]):
    """Passes in the order in which they run."""

    passes: Sequence[Pass[Value, Context]]

    def run(self, value: Value, context: Context, trace: Trace | None = None) -> Value:
        """The value after all passes. Without a trace nothing is timed, printed or verified."""
        if trace is None:
            for each in self.passes:
                value = each.function(value, context)
            return value
        for each in self.passes:
            start = perf_counter()
            value = each.function(value, context)
            seconds = perf_counter() - start
            if trace.verify:
                trace.verify(value, each.name)
            trace.records.append(Record(each.name, seconds, trace.dump(value) if trace.dump else ""))
        return value

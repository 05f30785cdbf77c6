"""The pass runner: order, timing, dumps, verification on request."""
from __future__ import annotations

import pytest

from pluggrad.errors import VerifyError
from pluggrad.ir.passes import Pass, PassList, Trace

PASSES: PassList[list[str], str] = PassList([
    Pass("first", "comes before second", lambda value, suffix: [*value, "1" + suffix]),
    Pass("second", "needs what first made", lambda value, suffix: [*value, "2" + suffix]),
])


def test_passes_run_in_order_with_the_context() -> None:
    assert PASSES.run([], "x") == ["1x", "2x"]


def test_a_trace_times_and_dumps_each_pass() -> None:
    trace = Trace(dump=" ".join)
    assert PASSES.run(["0"], "", trace) == ["0", "1", "2"]
    assert [(record.name, record.text) for record in trace.records] == [("first", "0 1"), ("second", "0 1 2")]
    assert all(record.seconds >= 0 for record in trace.records)


def test_verification_runs_after_each_pass_and_names_it() -> None:
    def refuse(value: list[str], name: str) -> None:
        if "1" in value:
            raise VerifyError(f"broken after {name}")

    with pytest.raises(VerifyError, match="after first"):
        PASSES.run([], "", Trace(verify=refuse))


def test_text_is_made_only_when_asked_for() -> None:
    trace = Trace()
    PASSES.run([], "", trace)
    assert [record.text for record in trace.records] == ["", ""]

"""Which rounds count, and what becomes of a library that fails."""

from __future__ import annotations

import statistics

import pytest

from benchmarks.limits import Limits
from benchmarks.turns import Absent, Row, Turn, measure, quiet_rounds
from benchmarks.workloads import WORKLOADS

GEMM = WORKLOADS["gemm1024"]


class Probe:
    """Gives out limits made up beforehand, then the last one for ever."""

    def __init__(self, *fma):
        self.left = [Limits(value, 50.0, 1.0) for value in fma]

    def measure(self):
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    def quiet(self, before, after):
        return before.moved(after) <= 0.15


class Child:
    """A library that takes 2 s a call, and fails at what it is told to."""

    def __init__(self, name, fails=None, made=True, value=1.0):
        self.name, self.fails, self.made, self.value = name, fails, made, value
        self.dropped = 0

    def ask(self, do, **request):
        if do == self.fails:
            raise Absent(f"no {do}")
        self.dropped += do == "drop"
        return {"make": {"made": self.made, "value": self.value, "kernels": None},
                "time": {"seconds": [2.0] * len(request.get("works", ())), "busy": 1.0}, "drop": {}}[do]


def test_a_round_in_which_a_limit_moved_is_thrown_away():
    rounds = iter("abcd")
    kept, discarded = quiet_rounds(Probe(100, 101, 130, 129, 128), 3, lambda: next(rounds))
    assert [result for result, _ in kept] == ["a", "c", "d"]
    assert discarded == 1
    assert kept[0][1].fma == pytest.approx(100.5)


def test_patience_ends():
    kept, discarded = quiet_rounds(Probe(*[100 * 2**i for i in range(40)]), 2, lambda: None)
    assert kept == []
    assert discarded == 8


def test_a_limit_that_fell_moved_as_far_as_one_that_rose():
    assert Limits(100, 50, 1).moved(Limits(80, 50, 1)) == pytest.approx(0.2)
    assert Limits(100, 50, 1).moved(Limits(100, 60, 1)) == pytest.approx(0.2)


def test_failing_libraries_are_named_and_the_others_go_on():
    children = [Child("pluggrad"), Child("unmade", fails="make"), Child("untimed", fails="time"),
                Child("without", made=False)]
    [row] = measure([GEMM], children, Probe(100), rounds=2)
    assert row.absent == {"unmade": "no make", "untimed": "no time"}
    assert list(row.turns) == ["pluggrad"]
    assert row.turns["pluggrad"] == [Turn(2.0, 1.0)] * 2
    assert row.figure("pluggrad") == pytest.approx(GEMM.amount / 2)
    assert [child.dropped for child in children] == [1, 1, 1, 1]


def test_a_row_without_quiet_rounds_has_no_turns():
    [row] = measure([GEMM], [Child("pluggrad")], Probe(*[2**i for i in range(40)]), rounds=1)
    assert row.turns == {}
    assert row.discarded == 4


def test_workloads_timed_together_make_a_row_each():
    rows = measure([GEMM, WORKLOADS["gemm512"]], [Child("pluggrad")], Probe(100), rounds=1)
    assert [row.workload.name for row in rows] == ["gemm1024", "gemm512"]
    assert rows[0].ratio("pluggrad", "pluggrad", of=rows[1]) == 1


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    ours, theirs = [1.0, 9.0, 2.0], [2.0, 10.0, 1.0]
    row = Row(GEMM, {"a": [Turn(s, 1) for s in ours], "b": [Turn(s, 1) for s in theirs]})
    assert row.ratio("a", "b") == statistics.median([0.5, 0.9, 2.0])


def test_results_are_compared():
    children = [Child("pluggrad", value=1.2), Child("torch"), Child("jax", value=1.001)]
    [row] = measure([GEMM], children, Probe(100), rounds=1)
    assert row.differing() == ["pluggrad"]
    for wrong in (float("nan"), 0.5):
        row.values = {"pluggrad": wrong, "torch": 1.0}
        assert row.differing() == ["pluggrad"]
    row.values = {"pluggrad": 1.0}
    assert row.differing() == []

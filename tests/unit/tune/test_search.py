"""A measured search, with timers made up here: which candidate wins, and what a winner has to show."""
from __future__ import annotations

import math

import numpy as np
import pytest

from pluggrad.kernel.interpret import interpret
from pluggrad.target import Capabilities
from pluggrad.tune import tune
from pluggrad.tune.search import Found, candidates, changed, search
from tests.unit.kernel.kernels import matmul
from tests.unit.tune.test_actions import kinds

ALL = frozenset({"float32", "int32", "bool"})
WIDE = Capabilities(ALL, ALL, vector_bytes=64, vector_registers=32, cores=4)
KERNEL = kinds(matmul(100, 200, 101))
CHOICES = list(candidates(KERNEL, WIDE))


class Timer:
    """Seconds by schedule, 1 where none are given; lists are handed out one by one, their last one stays."""

    def __init__(self, seconds):
        self.seconds, self.asked = {key: list(value) for key, value in seconds.items()}, []

    def __call__(self, tuned):
        self.asked.append(tuned)
        left = self.seconds.get(tuned, [1.0])
        return left.pop(0) if len(left) > 1 else left[0]


def test_the_heuristics_choice_is_the_first_candidate_and_all_differ():
    assert CHOICES[0].change == ()
    assert CHOICES[0].tuned == tune(KERNEL, WIDE)
    assert len({each.tuned for each in CHOICES}) == len(CHOICES) > 3
    for each in CHOICES:
        assert tune(KERNEL, changed(WIDE, each.change)) == each.tuned


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: str(choice.change))
def test_every_candidate_computes_the_same(choice):
    generator = np.random.default_rng(0)
    given = [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in KERNEL.buffers]
    expected = [array.copy() for array in given]
    interpret(KERNEL, expected, [])
    memory = given + [np.empty(t.size, t.dtype.numpy) for t in choice.tuned.temporaries]
    for phase in choice.tuned.phases:
        interpret(phase.kernel, [memory[i] for i in phase.args], [])
    np.testing.assert_array_equal(memory[0], expected[0])


def test_the_fastest_wins():
    timer = Timer({CHOICES[1].tuned: [0.9], CHOICES[2].tuned: [0.5], CHOICES[3].tuned: [0.7]})
    found = search(KERNEL, WIDE, timer)
    assert (found.change, found.gain) == (CHOICES[2].change, 2.0)
    assert found.timed == len(set(timer.asked))


def test_a_search_goes_on_from_the_best_so_far():
    beyond = [each for each in candidates(KERNEL, WIDE, start=CHOICES[2].change)
              if each.tuned not in {choice.tuned for choice in CHOICES}]
    timer = Timer({CHOICES[2].tuned: [0.9], beyond[0].tuned: [0.5]})
    assert search(KERNEL, WIDE, timer).change == beyond[0].change


@pytest.mark.parametrize(("again", "wins"), [(0.98, False), (0.96, True)])
def test_a_winner_leads_by_three_percent_when_measured_again(again, wins):
    timer = Timer({CHOICES[1].tuned: [0.5, again]})  # a lucky first run
    found = search(KERNEL, WIDE, timer)
    assert found.change == (CHOICES[1].change if wins else ())
    assert timer.asked[-2:] == [CHOICES[0].tuned, CHOICES[1].tuned]


def test_where_nothing_is_faster_the_heuristics_choice_stays():
    timer = Timer({})
    assert search(KERNEL, WIDE, timer) == Found((), 1.0, len(CHOICES))
    assert len(timer.asked) == len(CHOICES)


def test_what_does_not_run_cannot_win():
    assert search(KERNEL, WIDE, Timer({each.tuned: [math.inf] for each in CHOICES[1:]})).change == ()


def test_one_candidate_is_not_timed():
    def refuse(tuned):
        raise AssertionError("there is nothing to choose")

    interprets = Capabilities(ALL, ALL, interprets_kernels=True)
    assert search(KERNEL, interprets, refuse) == Found((), 1.0, 0)


def test_progress_sees_each_candidate_once():
    shown = []

    def bar(every, label):
        shown.append((label, len(every)))
        return every

    search(KERNEL, WIDE, Timer({}), progress=bar)
    assert shown == [(KERNEL.name, len(CHOICES) - 1)]

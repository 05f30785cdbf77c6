"""Where temporaries lie, and what may run side by side."""
from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pluggrad.plan.memory import Lifetime, lay_out
from pluggrad.plan.order import barriers

LIVES = st.lists(st.builds(lambda n, first, length: Lifetime(n, first, first + length),
                           st.integers(1, 5000), st.integers(0, 20), st.integers(0, 8)), max_size=20)
NUMBERS = st.frozensets(st.integers(0, 5), max_size=3)


@given(LIVES, st.sampled_from([64, 256]))
def test_what_lives_together_never_overlaps(lives, alignment):
    offsets, size = lay_out(lives, alignment)
    for offset, life in zip(offsets, lives, strict=True):
        assert offset % alignment == 0
        assert offset + life.nbytes <= size
    placed = list(zip(offsets, lives, strict=True))
    for (x, one), (y, two) in itertools.combinations(placed, 2):
        if one.first <= two.last and two.first <= one.last:
            assert x + one.nbytes <= y or y + two.nbytes <= x


def test_memory_is_used_again():
    chain = [Lifetime(1024, i, i + 1) for i in range(50)]
    assert lay_out(chain, 64)[1] == 2048


def test_nothing_takes_nothing():
    assert lay_out([], 64) == ((), 0)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_commands_between_barriers_do_not_depend_on_each_other(commands):
    flags = barriers(commands)
    assert len(flags) == len(commands)
    since: list[tuple[frozenset[int], frozenset[int]]] = []
    for flag, (reads, writes) in zip(flags, commands, strict=True):
        conflict = any(reads & wrote or writes & wrote or writes & read for read, wrote in since)
        assert flag == conflict
        since = [] if flag else since
        since.append((reads, writes))

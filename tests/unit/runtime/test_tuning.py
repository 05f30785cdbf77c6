"""Searches at run time: only on request, kept on disk, used from then on, and no result changes."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from pluggrad import Context, Tensor
from pluggrad.errors import CompileError
from pluggrad.runtime import cache, tuning
from pluggrad.runtime.sessions import session
from pluggrad.runtime.tuning_store import TuningStore
from pluggrad.target import DeviceId
from pluggrad.tune.search import Found

CHANGE = (("cores", 1), ("vector_registers", 8))
rows = itertools.count(33)  # a plan that is in memory already is not made again


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache folder of its own."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def place(device_name, monkeypatch):
    """The session of a device, with a store of its own, and no plans yet."""
    found = session(DeviceId.parse(device_name))
    monkeypatch.setattr(found, "_plans", {})
    monkeypatch.setattr(found, "tuning", TuningStore("a context of its own"))
    return found


@pytest.fixture
def searched(monkeypatch):
    """Every search finds CHANGE; lists the kernels that were searched for."""
    asked = []

    def search(kernel, *_):
        asked.append(kernel.name)
        return Found(CHANGE, 2.0, 5)

    monkeypatch.setattr(tuning, "search", search)
    return asked


def check(place, m):
    x = np.arange(m * 40, dtype=np.float32).reshape(m, 40) % 7
    y = np.arange(40 * 50, dtype=np.float32).reshape(40, 50) % 5
    found = (Tensor(x, device=str(place.id)) @ Tensor(y, device=str(place.id))).numpy()
    np.testing.assert_array_equal(found, x @ y)


def test_nothing_is_searched_without_the_setting(place, searched):
    check(place, next(rows))
    assert not searched
    assert not place.tuning
    assert place.tuning.key == ""


def test_a_winner_is_kept_and_used_in_the_next_process(place, searched, monkeypatch):
    m = next(rows)
    with Context(SEARCH=1):
        check(place, m)
    assert len(searched) == 1
    assert place.tuning.found == [(searched[0], Found(CHANGE, 2.0, 5))]
    again = TuningStore("a context of its own")  # as another process reads it
    assert again.key == place.tuning.key
    monkeypatch.setattr(place, "tuning", again)
    place._plans.clear()
    used = []
    changed = tuning.changed
    monkeypatch.setattr(tuning, "changed", lambda c, change: used.append(change) or changed(c, change))
    with Context(SEARCH=1):
        check(place, m)
    assert used == [CHANGE]
    assert len(searched) == 1


def test_plans_made_before_a_search_are_made_again(place, searched):
    m = next(rows)
    check(place, m)
    before = place.tuning.key
    place._plans.clear()
    with Context(SEARCH=1):
        check(place, m)
    assert len(searched) == 1
    assert place.tuning.key != before


def test_ctrl_c_keeps_what_was_found(place, monkeypatch):
    found = iter([Found(CHANGE, 2.0, 5)])

    def search(kernel, *_):
        try:
            return next(found)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(tuning, "search", search)
    with Context(SEARCH=1):
        check(place, next(rows))
        with pytest.raises(KeyboardInterrupt):
            check(place, next(rows))
    assert TuningStore("a context of its own").key == place.tuning.key != ""


def test_the_heuristics_choice_is_kept_too(place, monkeypatch):
    calls = []
    monkeypatch.setattr(tuning, "search", lambda kernel, *_: calls.append(kernel) or Found((), 1.0, 5))
    m = next(rows)
    for _ in range(2):
        place._plans.clear()
        with Context(SEARCH=1):
            check(place, m)
    assert len(calls) == 1


def test_entries_of_two_processes_are_kept():
    first, second = TuningStore("same"), TuningStore("same")
    first.keep("a", CHANGE)
    second.keep("b", ())
    third = TuningStore("same")
    assert (third.get("a"), third.get("b"), third.get("c")) == (CHANGE, (), None)
    assert not TuningStore("another target")


@pytest.mark.parametrize("content", [b"not json", b"[1, 2]", b'{"k": [["cores", "many"]]}', b'{"k": 1}'])
def test_a_damaged_store_is_an_empty_one(content):
    store = TuningStore("damaged")
    cache.store("tuned", store._file, content)
    assert not TuningStore("damaged")
    store.keep("k", CHANGE)
    assert TuningStore("damaged").get("k") == CHANGE


def test_a_file_that_was_cut_short_is_an_empty_store(folder):
    TuningStore("cut").keep("k", CHANGE)
    [path] = folder.glob("tuned-*")
    path.write_bytes(path.read_bytes()[:-3])
    assert not TuningStore("cut")


def test_a_candidate_that_does_not_compile_takes_for_ever(place, monkeypatch):
    def refuse(*_):
        raise CompileError("no")

    monkeypatch.setattr(tuning, "Trial", refuse)
    assert tuning._seconds(place, None, None) == float("inf")


def test_a_search_measures_and_keeps_results_right(place):
    with Context(SEARCH=1):
        check(place, next(rows))
    assert [found.timed > 1 for _, found in place.tuning.found] in ([], [True])

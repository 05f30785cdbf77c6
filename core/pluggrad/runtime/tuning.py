"""Schedules as searches found them. Nothing is measured unless the setting SEARCH asks for it."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from pluggrad.config import SEARCH
from pluggrad.errors import PluggradError
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.offer import Claim
from pluggrad.lower import program_name
from pluggrad.runtime.trial import Place, Trial
from pluggrad.runtime.tuning_store import TuningStore
from pluggrad.target import Capabilities
from pluggrad.tune import Tuned, tune
from pluggrad.tune.search import Candidate, Found, changed, search

_SECONDS: Final = 0.03  # that one candidate is run for


class Tuner:
    """Stands for `tune` where plans are made: an entry of the store decides, or the heuristics."""

    def __init__(self, place: Place, store: TuningStore) -> None:
        self._place, self._store = place, store

    def __call__(self, kernel: Kernel, capabilities: Capabilities, claim: Claim | None) -> Tuned:
        """The kernel's schedule; searched for first if that is asked for and nobody did."""
        if not self._store and not SEARCH.value:
            return tune(kernel, capabilities, claim)
        name = program_name(kernel)
        if SEARCH.value and self._store.get(name) is None:
            found = self._search(kernel, capabilities, claim)
            if found.timed:
                self._store.keep(name, found.change)
                self._store.found.append((kernel.name, found))
        return tune(kernel, changed(capabilities, self._store.get(name) or ()), claim)

    def _search(self, kernel: Kernel, capabilities: Capabilities, claim: Claim | None) -> Found:
        return search(kernel, capabilities, partial(_seconds, self._place, kernel), claim, _bar)


def _seconds(place: Place, kernel: Kernel, tuned: Tuned) -> float:
    """How long a candidate takes; infinity where it does not compile or run."""
    try:
        return Trial(place, kernel, tuned).seconds(_SECONDS)
    except PluggradError:
        return math.inf


def _bar(every: Sequence[Candidate], label: str) -> Iterable[Candidate]:
    """A progress bar in a terminal, where tqdm is installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return every
    bar: Iterable[Candidate] = tqdm(every, desc=label, unit="schedule", leave=False, disable=None)
    return bar

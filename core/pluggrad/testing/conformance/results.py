"""What a run found, counted: the verdict over outcomes, expected failures and what was not covered."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pluggrad.testing.conformance.coverage import uncovered
from pluggrad.testing.conformance.outcome import Description, Outcome
from pluggrad.testing.conformance.registry import LEVELS, ConformanceTest, Level, Point
from pluggrad.testing.conformance.requirement import Requirement
from pluggrad.testing.conformance.xfails import stale

Verdict = Literal["passed", "failed", "advisory", "xfailed", "xpassed"]
# xpassed: it passed although it was expected to fail, an error. advisory: it failed, and is too new to count
VERDICTS: Final[tuple[Verdict, ...]] = ("passed", "failed", "xpassed", "xfailed", "advisory")
_BAD: Final = frozenset({"failed", "xpassed"})


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tests of the suite a run is about.

    chosen: by level and text. not_applicable: of these, those that need what the device does not declare, by
    id with that capability. whole: nothing was left out by choice.
    """

    chosen: tuple[ConformanceTest, ...]
    not_applicable: Mapping[str, str]
    whole: bool

    @property
    def to_run(self) -> list[ConformanceTest]:
        """The chosen tests that apply, those with a process of their own first: they take longest."""
        applicable = [test for test in self.chosen if test.id not in self.not_applicable]
        return sorted(applicable, key=lambda test: not test.isolated)


def select(tests: Mapping[str, ConformanceTest], description: Description | None,
           levels: Sequence[Level] = (), text: str = "", every: int = 1) -> Selection:
    """Tests of these levels (none: all) whose id contains `text`, or is `text`; commas separate several.

    every: of the cases of one test the first and each so many behind it, for a quick look.
    Without a description, the device did not open: what needs anything of it is not applicable.
    """
    words = [word.strip() for word in text.split(",")]
    exact = {word for word in words if word in tests}
    parts = [word.lower() for word in words if word not in exact]
    chosen = [test for test in tests.values() if not levels or test.level in levels]
    chosen = [test for test in chosen if test.id in exact or any(part in test.id.lower() for part in parts)]
    families: dict[object, list[ConformanceTest]] = {}
    for test in chosen:
        families.setdefault(test.body, []).append(test)
    chosen = [test for family in families.values() for test in family[::every]]
    missing = {test.id: reason for test in chosen if (reason := _missing(test, description))}
    return Selection(tuple(chosen), missing, len(chosen) == len(tests))


def _missing(test: ConformanceTest, description: Description | None) -> str:
    if description is not None:
        return test.requires.missing(description.capabilities)
    return "" if test.blind and test.requires == Requirement() else "an open device"


@dataclass(slots=True)
class Results:
    """Outcomes as they come in. `problems` are errors that belong to no test."""

    selection: Selection
    description: Description | None
    xfails: Mapping[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, test: ConformanceTest, outcome: Outcome) -> Verdict:
        """Keep an outcome."""
        self.outcomes[test.id] = outcome
        return self.verdict(test)

    def verdict(self, test: ConformanceTest) -> Verdict:
        """What the outcome of a test amounts to."""
        passed, expected = self.outcomes[test.id].ending == "passed", test.id in self.xfails
        if expected:
            return "xpassed" if passed else "xfailed"
        if passed:
            return "passed"
        return "advisory" if test.advisory else "failed"

    def check_xfails(self, suite: Mapping[str, ConformanceTest]) -> None:
        """Expected failures that name no test, or one that does not apply here, are problems."""
        self.problems += [f"expected failure is stale: {text}"
                          for text in stale(self.xfails, suite.keys(), self.selection.not_applicable)]

    def done(self) -> Iterator[tuple[ConformanceTest, Outcome, Verdict]]:
        """Each test that ended, in the order of the suite."""
        for test in self.selection.chosen:
            if test.id in self.outcomes:
                yield test, self.outcomes[test.id], self.verdict(test)

    @property
    def ok(self) -> bool:
        """Every chosen test that applies was run and none counts as failed."""
        complete = all(test.id in self.outcomes for test in self.selection.to_run)
        return complete and not self.problems and not any(v in _BAD for _, _, v in self.done())

    def counts(self) -> dict[Level, Counter[str]]:
        """For each level, how many tests got each verdict, and how many are not applicable."""
        counted: dict[Level, Counter[str]] = {level: Counter() for level in LEVELS}
        for test in self.selection.chosen:
            if test.id in self.selection.not_applicable:
                counted[test.level]["not applicable"] += 1
            elif test.id in self.outcomes:
                counted[test.level][self.verdict(test)] += 1
            else:
                counted[test.level]["not run"] += 1
        return counted

    def not_applicable(self) -> Counter[str]:
        """How many tests each missing capability leaves out."""
        return Counter(self.selection.not_applicable.values())

    def uncovered(self) -> list[Point]:
        """The points of op, dtype and layout that no test of this run was about."""
        if self.description is None:
            return []
        covered = [point for test, _, _ in self.done() for point in test.covers]
        return uncovered(self.description.capabilities, covered)

"""What a run says at its end: each failure and how to see it again, counts by level, the verdict."""
from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from pluggrad.device.versions import API_MAJOR, API_MINOR
from pluggrad.testing.conformance.outcome import Description, Failure
from pluggrad.testing.conformance.registry import LEVELS, SUITE_VERSION
from pluggrad.testing.conformance.results import VERDICTS, Results
from pluggrad.version import __version__

_MOST_SHOWN: Final = 25  # failures in full; the others by id
_OUTPUT_LINES: Final = 30
_POINTS_SHOWN: Final = 6
_TITLES: Final = {"failed": "FAILED", "xpassed": "PASSED, though expected to fail",
                  "advisory": "failed, advisory in this version of the suite",
                  "xfailed": "failed as expected"}


def heading(description: Description, tests: int, jobs: int, limit_s: float) -> Iterator[str]:
    """What is tested, and how."""
    yield (f"pluggrad conformance suite {SUITE_VERSION}, core {__version__}, plugin API "
           f"{API_MAJOR}.{API_MINOR}")
    yield (f"device {description.device}: {description.name or 'no name'}, "
           f"{description.distribution} {description.version}")
    yield textwrap.shorten(f"target {description.arch.replace(',', ', ')}", 110, placeholder=" ...")
    if description.about:
        yield from _wrapped(description.about)
    widened = ", ".join(f"{dtype} {factor:g} times" for dtype, factor in description.capabilities.widening)
    if widened:
        yield f"tolerances widened by the device: {widened}"
    yield f"{tests} tests in {jobs} {'process' if jobs == 1 else 'processes'}, {limit_s:g} s each at most"
    yield ""


def summary(results: Results, command: str, verbose: bool = False) -> Iterator[str]:
    """Lines of the end. command: what reruns the tests, to which a selection is added."""
    shown = [entry for entry in results.done()
             if entry[2] in ("failed", "xpassed", "advisory") or (verbose and entry[2] == "xfailed")]
    for number, (test, outcome, verdict) in enumerate(shown):
        yield f"{_TITLES[verdict]}  {test.id}"
        if number < _MOST_SHOWN or verbose:
            if verdict in ("xfailed", "xpassed"):
                yield f"    expected to fail: {results.xfails[test.id]}"
            if outcome.failure is not None:
                yield from _details(outcome.failure, verbose)
            yield f"    again: {command} -k {test.id}"
            yield ""
    for problem in results.problems:
        yield f"ERROR  {problem}"
    yield from _table(results)
    missing = [f"{reason} ({count})" for reason, count in results.not_applicable().most_common()]
    if missing:
        yield from _wrapped(f"not applicable, for want of: {', '.join(missing)}")
    yield from _coverage(results)
    yield _verdict(results)


def _details(failure: Failure, verbose: bool) -> Iterator[str]:
    what = " ".join(part for part in (failure.op, failure.dtype) if part)
    yield from _indented(f"{what}: {failure.message}" if what else failure.message)
    rows = (("expected", failure.expected), ("got", failure.got), ("first wrong", failure.where),
            ("suggests", failure.suggests))
    for name, text in rows:
        if text and text not in failure.message:
            yield from _indented(f"{name + ':':<12} {text}")
    if failure.output:
        lines = failure.output.splitlines()
        yield "    output:"
        yield from (f"        {line}" for line in (lines if verbose else lines[-_OUTPUT_LINES:]))
    if verbose:
        yield from (f"        {line}" for line in failure.traceback.splitlines())


def _table(results: Results) -> Iterator[str]:
    columns = [*VERDICTS, "not applicable", "not run"]
    counts = results.counts()
    used = [name for name in columns if name == "passed" or any(c[name] for c in counts.values())]
    yield f"{'level':<22}" + "".join(f"{name:>16}" for name in used)
    for level, what in LEVELS.items():
        if counts[level]:
            yield f"{f'{level} {what}':<22}" + "".join(f"{counts[level][name]:>16}" for name in used)


def _coverage(results: Results) -> Iterator[str]:
    if not results.selection.whole or results.description is None:
        return
    points = results.uncovered()
    if not points:
        yield "covered: every op x dtype x layout"
        return
    shown = ", ".join("/".join(point) for point in points[:_POINTS_SHOWN])
    more = "" if len(points) <= _POINTS_SHOWN else ", ... (--report lists them)"
    yield from _wrapped(f"not covered: {len(points)} of op x dtype x layout: {shown}{more}")


def _verdict(results: Results) -> str:
    count, expected = len(results.outcomes), len(results.selection.to_run)
    if results.ok:
        some = "all" if results.selection.whole else "the chosen"
        return f"{some} {count} tests passed in {results.seconds:.0f} s"
    bad = sum(verdict in ("failed", "xpassed") for _, _, verdict in results.done())
    left = f", {expected - count} not run" if count < expected else ""
    problems = f", {len(results.problems)} errors" if results.problems else ""
    return f"FAILED: {bad} of {count} tests{left}{problems}, in {results.seconds:.0f} s"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, width=110, subsequent_indent="    ", break_on_hyphens=False)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, width=110, initial_indent="    ", subsequent_indent="        ",
                         break_on_hyphens=False, break_long_words=False)

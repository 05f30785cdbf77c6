"""`python -m pluggrad conformance DEVICE`: does a device keep its contract?"""
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence

from pluggrad.cli.options import count, readable_file, time_limit, writable_file
from pluggrad.testing.conformance.collect import collect
from pluggrad.testing.conformance.outcome import Outcome
from pluggrad.testing.conformance.progress import Progress
from pluggrad.testing.conformance.registry import LEVELS, ConformanceTest, Level
from pluggrad.testing.conformance.report import report
from pluggrad.testing.conformance.results import Results, Selection, select
from pluggrad.testing.conformance.runner import Opened, Runner, available_cores, runner
from pluggrad.testing.conformance.summary import heading, summary
from pluggrad.testing.conformance.xfails import read_xfails

TIME_LIMIT_S = 30.0


def main(arguments: Sequence[str]) -> int:
    """Run the suite; 0 if all tests that apply passed, 1 if not, 2 if nothing could be run, 130 at Ctrl-C."""
    options = _parser().parse_args(arguments)
    suite = collect()
    xfails = {} if options.xfails is None else read_xfails(options.xfails)
    if options.list:
        return _list(select(suite, None, options.level, options.k, options.every))
    with runner(options.device, jobs=options.jobs, limit_s=options.time_limit) as made:
        opened = made.look()
        selection = select(suite, opened.description, options.level, options.k, options.every)
        results = Results(selection, opened.description, xfails)
        if not results.selection.chosen:
            print(f"no test is chosen by level {','.join(options.level) or 'any'} and text {options.k!r}",
                  file=sys.stderr)
            return 2
        interrupted = _run(made, results, opened, suite, options)
    command = f"python -m pluggrad conformance {options.device}"
    print("\n".join(summary(results, command, options.verbose)))
    if options.report is not None:
        options.report.write_text(json.dumps(report(results), indent=1) + "\n", encoding="utf-8")
    if interrupted:
        return 130
    return 0 if results.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pluggrad conformance", description=__doc__)
    parser.add_argument("device", metavar="DEVICE", help="the device to test, as `device=` takes it")
    parser.add_argument("--level", type=_levels, default=(), metavar="L0,L1", help="these levels only")
    parser.add_argument("-k", default="", metavar="TEXT",
                        help="tests whose id contains, or is, TEXT; commas separate several")
    parser.add_argument("--every", type=count, default=1, metavar="N",
                        help="of each test's cases every N-th only, the first among them: a quick look")
    parser.add_argument("--jobs", type=count, default=available_cores(), metavar="N",
                        help="processes side by side (default: %(default)s)")
    parser.add_argument("--time-limit", type=time_limit, default=TIME_LIMIT_S, metavar="S",
                        help="seconds that one test may take (default: %(default)g)")
    parser.add_argument("--xfails", type=readable_file, metavar="FILE",
                        help="tests that are expected to fail: lines `test-id  reason`")
    parser.add_argument("--report", type=writable_file, metavar="FILE", help="write the results as JSON")
    parser.add_argument("-v", "--verbose", action="store_true",
                        help="each test as it ends; tracebacks and all output of failures")
    parser.add_argument("--list", action="store_true", help="print the ids of the tests and stop")
    return parser


def _levels(text: str) -> tuple[Level, ...]:
    wanted = {part.strip().upper() for part in text.split(",")}
    if not wanted <= LEVELS.keys():
        raise argparse.ArgumentTypeError(f"expected some of {','.join(LEVELS)}, got {text!r}")
    return tuple(level for level in LEVELS if level in wanted)


def _list(selection: Selection) -> int:
    print("\n".join(test.id for test in selection.chosen))
    return 0


def _run(made: Runner, results: Results, opened: Opened, suite: Mapping[str, ConformanceTest],
         options: argparse.Namespace) -> bool:
    """Fill `results`; True if Ctrl-C ended the run."""
    results.check_xfails(suite)
    tests = results.selection.to_run
    if opened.description is None:
        results.problems.append(f"the device does not open: {opened.reason}")
    else:
        print("\n".join(heading(opened.description, len(tests), options.jobs, options.time_limit)),
              flush=True)
    started = time.perf_counter()
    with Progress(len(tests)) as progress:
        def on_outcome(test: ConformanceTest, outcome: Outcome) -> None:
            verdict = results.add(test, outcome)
            if options.verbose:
                progress.log(f"{verdict:<9} {outcome.seconds:7.3f} s  {test.id}")
            progress.advance(test.id, verdict in ("failed", "xpassed"))
        try:
            made.run(tests, on_outcome)
        except KeyboardInterrupt:
            results.problems.append("stopped by Ctrl-C")
            return True
        finally:
            results.seconds = time.perf_counter() - started
    return False

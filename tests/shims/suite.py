"""`python -m tests.shims.suite collect|run ARCHITECTURE PART FOLDER`: tests of the conformance suite on the
device `shim`, in one process.

`collect` writes the sources of all kernels to FOLDER/sources.json; `run` compiles those and runs the tests
with them. Either writes FOLDER/<step>.json: how many tests passed, and what the others say.
"""
from __future__ import annotations

import faulthandler
import json
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pluggrad.testing.conformance.collect import collect
from pluggrad.testing.conformance.registry import ConformanceTest
from pluggrad.testing.conformance.subject import Subject
from pluggrad.testing.conformance.worker import run
from tests.shims import device
from tests.shims.languages import architecture
from tests.shims.libraries import Libraries

LIMIT_S: Final = 300.0  # of one test, on a busy machine
_LAUNCHES: Final = ("L0/launch/", "L4/async/", "L4/events/")  # kernels of levels 0 and 4
_PROGRAMS: Final = ("L2/", "L3/", "L4/matrix-units/")


def part_of(test: ConformanceTest) -> str:
    """What a device computes; the rest of the contract and optional features (levels 0 and 4) are a device's
    own, but for kernels of theirs.

    Tests that share kernels are of one part.
    """
    if test.id.startswith(_PROGRAMS):
        return "programs"
    if test.id.startswith(_LAUNCHES):
        return "launches"
    kernels = zlib.crc32((test.batch or test.body.__name__).encode()) % 3
    return f"kernels-{kernels}" if test.level == "L1" else ""


def chosen(part: str) -> Iterator[ConformanceTest]:
    """The tests of a part. `bfloat16` is all that level 1 has of that dtype."""
    for test in collect().values():
        if part_of(test) == part or (part == "bfloat16" and test.level == "L1" and part in test.id):
            yield test


def main(step: str, name: str, part: str, where: str) -> int:
    folder, of = Path(where), architecture(name)
    subject = Subject(device.NAME)
    if step == "collect":
        collecting = device.Collecting(of)
        device.install(collecting.backend)
        report = results(subject, part)
        (folder / "sources.json").write_text(json.dumps(collecting.sources), encoding="utf-8")
    else:
        libraries = Libraries(of.language, folder)
        started = time.perf_counter()
        libraries.add(json.loads((folder / "sources.json").read_text(encoding="utf-8")))
        compiled_s = time.perf_counter() - started
        device.install(device.Running(of, libraries).backend)
        report = results(subject, part) | {"compiled_s": compiled_s, "compiled alone": libraries.alone}
    (folder / f"{step}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0


def results(subject: Subject, part: str) -> dict[str, object]:
    """Run the tests of a part that apply; how many passed, and each failure by the test's id."""
    passed, failures = 0, {}
    for test in chosen(part):
        if test.requires.missing(subject.capabilities):
            continue
        print(test.id, file=sys.stderr, flush=True)  # the last line of a process that crashes
        outcome = run(test, subject, LIMIT_S)
        if outcome.failure is None:
            passed += 1
        else:
            failures[test.id] = f"{outcome.failure.message} {outcome.failure.traceback[-3000:]}"
    return {"passed": passed, "failures": failures}


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main(*sys.argv[1:]))

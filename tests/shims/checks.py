"""What is asserted of a part of the conformance suite whose kernels ran as C++."""
from __future__ import annotations

from typing import Final

from tests.shims.collection import collected, report, results

_SHOWN: Final = 10


def check_part(architecture: str, part: str, at_least: int) -> None:
    """Every test passes by the interpreter, which is how kernels are collected, and by the kernels.

    at_least: tests that have to have run.
    """
    for step, found in (("collected", report(collected(architecture, part), "collect")),
                        ("run", results(architecture, part))):
        failures = found["failures"]
        texts = [f"{test}: {text}" for test, text in list(failures.items())[:_SHOWN]]
        assert not failures, f"{len(failures)} tests failed where kernels are {step}:\n" + "\n\n".join(texts)
        assert found["passed"] >= at_least, found["passed"]

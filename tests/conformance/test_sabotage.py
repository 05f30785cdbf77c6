"""A plugin with one defect fails, and the failure names the defect; without it, the same tests pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SABOTAGED = Path(__file__).parent / "sabotaged.py"


@dataclass(frozen=True)
class Defect:
    """tests: what is run. fails: the test that has to fail. says: what its failure says."""

    name: str
    tests: str
    fails: str
    says: str


DEFECTS = [
    Defect("wrong-max", "L1/elementwise/MAX/float32", "L1/elementwise/MAX/float32/dense",
           "MAX of float32 is rendered wrong"),
    Defect("lost-tail", "L2/launch-sizes/1025", "L2/launch-sizes/1025", "a tail is lost"),
    Defect("over-claimed-dtype", "L1/elementwise/ADD/float16/odd", "L1/elementwise/ADD/float16/odd",
           "unknown type name 'half'"),
    Defect("missing-feature", "L0/features/graph", "L0/features/graph",
           "feature graph is declared and not implemented"),
    Defect("undeclared-feature", "L0/features/graph", "L0/features/graph",
           "feature graph is implemented and not declared"),
    Defect("heavy-import", "L0/import/modules", "L0/import/modules", "numpy"),
    Defect("probe-raises", "L0/probe/shape", "L0/probe/shape", "probe() raised"),
    Defect("leak", "L0/memory/free-gives-back/", "L0/memory/free-gives-back/small", "free() leaks"),
    Defect("careless-key", "L0/target/key", "L0/target/key-names-the-architecture",
           "two architectures have one key"),
    Defect("empty-name", "L0/target/by-name", "L0/target/by-name", "a kernel for target 'elsewhere'"),
    Defect("non-deterministic", "L2/same-sums", "L2/same-sums/65x4099", "not deterministic"),
    Defect("ignored-offset", "L0/memory/offsets/8", "L0/memory/offsets/8/17", "ignores an offset"),
    Defect("ignored-value", "L2/changing-values", "L2/changing-values", "ignores a run-time value"),
    Defect("early-event", "L4/events/wait-means", "L4/events/wait-means-complete", "the event fires early"),
    Defect("shared-memory", "L0/memory/apart", "L0/memory/apart", "two allocations share memory"),
    Defect("hang", "L2/launch-sizes/65", "L2/launch-sizes/65", "no answer within 2 s"),
    Defect("segfault", "L2/launch-sizes/65", "L2/launch-sizes/65", "killed by SIGSEGV"),
]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_fails_and_is_named(conformance: Callable[..., object], defect: Defect) -> None:
    limit = "2" if defect.name == "hang" else "60"
    done = conformance("sabotaged", "--jobs", "1", "--time-limit", limit, "-k", defect.tests,
                       module=SABOTAGED, SABOTAGE=defect.name)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"FAILED  {defect.fails}" in done.stdout
    report = done.stdout.partition(f"FAILED  {defect.fails}")[2].partition("FAILED  ")[0]
    assert defect.says in report, done.stdout


def test_without_a_defect_the_same_tests_pass(conformance: Callable[..., object]) -> None:
    tests = ",".join(sorted({defect.tests for defect in DEFECTS}))
    done = conformance("sabotaged", "--jobs", "1", "-k", tests, module=SABOTAGED, SABOTAGE="")
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_op_that_crashes_is_one_failure_though_its_kernel_holds_others(
    conformance: Callable[..., object],
) -> None:
    tests = ",".join(f"L1/elementwise/{op}/float32/odd" for op in ("NEG", "ABS", "SQRT", "EXP"))
    done = conformance("sabotaged", "--jobs", "1", "-k", tests, module=SABOTAGED, SABOTAGE="segfault-of-sqrt")
    assert done.stdout.count("FAILED  ") == 1, done.stdout
    assert "FAILED  L1/elementwise/SQRT/float32/odd" in done.stdout
    assert "killed by SIGSEGV" in done.stdout

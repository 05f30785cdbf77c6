"""For each primitive, a renderer that is wrong on it alone fails, and the failure names it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from pluggrad.device.discovery import Entry
from pluggrad.device.plugins import Plugin, PluginHost
from pluggrad.device.registry import REGISTRY
from pluggrad.device.variants import Brought
from pluggrad.lower.instructions import INSTRUCTIONS
from pluggrad.target import DeviceId
from pluggrad.testing.conformance import worker
from pluggrad.testing.conformance.collect import collect
from pluggrad.testing.conformance.outcome import Outcome
from pluggrad.testing.conformance.subject import Subject
from tests.conformance.wrong_primitives import (
    WRONG,
    WRONG_IN_GROUPS,
    GroupedVariant,
    Wrong,
    WrongVariant,
)

DEVICE, WITH_GROUPS = "cpu", "opencl"
TESTS = collect()
# of matrix units, which no device here has: what is wrong on them is in unit/tune/test_matrix_units.py
OF_MATRIX_UNITS = {"MMA_ACC", "MMA", "MMA_STORE", "COPY", "COMMIT", "WAIT", "ARRIVALS", "COPY_BOX",
                   "WAIT_BOX"}
on_device, on_groups = pytest.mark.device(DEVICE), pytest.mark.device(WITH_GROUPS)


@pytest.fixture(scope="module", autouse=True)
def variants() -> Iterator[None]:
    """The devices under other names: `@right`, and `@wrong-neg` with a renderer that is wrong on NEG."""
    extension = Plugin(Entry("wrong", "", "extensions", 1, "fake-wrong", "1.0"), PluginHost())
    with pytest.MonkeyPatch.context() as patch:
        for device, wrongs, variant in ((DEVICE, WRONG, WrongVariant),
                                        (WITH_GROUPS, WRONG_IN_GROUPS, GroupedVariant)):
            changes = {f"wrong-{wrong.op.lower()}": wrong.apply for wrong in wrongs}
            changes["right"] = lambda program: program
            right = partial(REGISTRY.toolchain, DeviceId(device))
            brought = {name: [Brought(name, variant(right, apply), extension)]
                       for name, apply in changes.items()}
            patch.setitem(REGISTRY._variants, device, brought)
        yield


@pytest.fixture(scope="module")
def right() -> Subject:
    return Subject(f"{DEVICE}@right")


def outcome(test: str, subject: Subject) -> Outcome:
    return worker.run(TESTS[test], subject, 60.0)


@on_device
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.op)
def test_a_renderer_wrong_on_one_primitive_alone_fails(wrong: Wrong, right: Subject) -> None:
    assert outcome(wrong.test, right).ending == "passed"
    found = outcome(wrong.test, Subject(f"{DEVICE}@wrong-{wrong.op.lower()}"))
    if INSTRUCTIONS[wrong.op].optional and wrong.op not in right.capabilities.ops:
        assert found.ending == "passed", "it was written in other instructions"
        return
    assert found.ending == "failed"
    assert "elements are wrong" in found.failure.message, found.failure


@on_device
@pytest.mark.parametrize("wrong", [w for w in WRONG if "/elementwise/" in w.test], ids=lambda wrong: wrong.op)
def test_the_failure_names_the_primitive_and_no_other_fails(wrong: Wrong) -> None:
    subject = Subject(f"{DEVICE}@wrong-{wrong.op.lower()}")
    failure = outcome(wrong.test, subject).failure
    assert failure.op.startswith(f"{wrong.op} of {wrong.dtype.name}")
    other = next(w for w in WRONG if "/elementwise/" in w.test and w.op not in (wrong.op, "WHERE"))
    assert outcome(other.test, subject).ending == "passed"


@on_groups
@pytest.mark.parametrize("wrong", WRONG_IN_GROUPS, ids=lambda wrong: wrong.op)
def test_a_renderer_wrong_on_groups_alone_fails(wrong: Wrong) -> None:
    assert outcome(wrong.test, Subject(f"{WITH_GROUPS}@right")).ending == "passed"
    found = outcome(wrong.test, Subject(f"{WITH_GROUPS}@wrong-{wrong.op.lower()}"))
    assert found.ending == "failed"
    assert "elements are wrong" in found.failure.message, found.failure


def test_every_instruction_of_the_kernel_language_has_a_renderer_that_is_wrong_on_it() -> None:
    wrong = {wrong.op for wrong in (*WRONG, *WRONG_IN_GROUPS)}
    without_result = {"END", "PREFETCH"}  # one closes what others open, one is a hint
    assert sorted(wrong | OF_MATRIX_UNITS | without_result) == sorted(INSTRUCTIONS)

"""The suite's tests of matrix units can be passed and failed: by the reference device, on changed factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pluggrad.dtypes import DType
from pluggrad.tensor import Tensor
from pluggrad.testing.conformance.collect import collect
from pluggrad.testing.conformance.mismatch import Mismatch
from pluggrad.testing.conformance.registry import ConformanceTest
from pluggrad.testing.conformance.subject import Subject

ALL = [test for test in collect().values() if test.id.startswith("L4/matrix-units/")]
# others are alike, and take long
TESTS = [test for test in ALL
         if str(test.case.get("size")) != "192x256x264" and test.case.get("transposed") not in ("a", "b")]
Change = Callable[[np.ndarray], np.ndarray]


class Changing(Subject):
    """A device that changes what it is given before it multiplies."""

    def __init__(self, change: Change) -> None:
        super().__init__("ref")
        self._change = change

    def tensor(self, values: Any, dtype: DType | str | None = None) -> Tensor:
        return super().tensor(self._change(np.array(values)), dtype)


def truncated(x: np.ndarray) -> np.ndarray:
    """float32 without its last 13 bits."""
    return (x.view(np.uint32) & ~np.uint32(0x1FFF)).view(np.float32) if x.dtype == np.float32 else x


def rounded(x: np.ndarray) -> np.ndarray:
    """To the nearest of those; NaN as it is."""
    return np.where(np.isnan(x), x, truncated((x.view(np.uint32) + 0x1000).view(np.float32)))


def one_moved(x: np.ndarray) -> np.ndarray:
    """Two elements change places."""
    flat = x.reshape(-1)
    flat[[1, 70]] = flat[[70, 1]] if flat[1] != flat[70] else (flat[1] + 1, flat[70])
    return x


def passes(test: ConformanceTest, subject: Subject) -> bool:
    try:
        test.body(subject, **test.case)
    except Mismatch:
        return False
    return True


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.id.removeprefix("L4/matrix-units/"))
def test_they_can_be_passed_and_failed(test: ConformanceTest) -> None:
    assert passes(test, Subject("ref"))
    assert not passes(test, Changing(one_moved))


@pytest.mark.parametrize(("change", "failing"), [
    (rounded, set()), (truncated, {"not-finite/float32", "rounding/float32/none", "rounding/float32/both"})])
def test_float32_may_be_rounded_and_not_cut_off(change: Change, failing: set[str]) -> None:
    of_float32 = [test for test in TESTS if test.case["dtype"] == "float32"]
    failed = {test.id for test in of_float32 if not passes(test, Changing(change))}
    assert failed == {f"L4/matrix-units/{name}" for name in failing}


def test_only_a_device_with_such_a_unit_is_asked() -> None:
    needed = {test.id: test.requires.matrix_units for test in ALL}
    assert set(map(frozenset, needed.values())) == {
        frozenset({dtype}) for dtype in ("float16", "bfloat16", "float32")}

"""What a session refuses before anything runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pluggrad import dtypes, runtime
from pluggrad.errors import UnsupportedDType
from pluggrad.graph import build
from pluggrad.runtime.sessions import session
from pluggrad.target import DeviceId

REF = DeviceId("ref")


@pytest.fixture
def without_doubles(monkeypatch):
    """The reference device as if it did not declare float64."""
    place = session(REF)
    fewer = replace(place.target.capabilities, dtypes=place.target.capabilities.dtypes - {"float64"})
    monkeypatch.setattr(place, "target", replace(place.target, capabilities=fewer))


def test_an_undeclared_dtype_is_refused_before_it_is_stored(without_doubles):
    with pytest.raises(UnsupportedDType, match=r"device ref: expected .*float32.*, got float64\. Cast"):
        runtime.upload(np.ones(3), dtypes.float64, REF)
    runtime.upload(np.ones(3, np.float32), dtypes.float32, REF)


def test_an_undeclared_dtype_is_refused_before_it_is_computed(without_doubles):
    node = build.cast(build.const(2.5, dtypes.float32, REF, (7,)), dtypes.float64)
    doubled = build.cast(build.contiguous(node), dtypes.float32)
    with pytest.raises(UnsupportedDType, match="float64"):
        runtime.read(doubled)
    np.testing.assert_array_equal(runtime.read(build.const(2.5, dtypes.float32, REF, (7,))), [2.5] * 7)

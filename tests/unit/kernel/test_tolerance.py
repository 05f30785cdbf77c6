"""The table of tolerances, by which every comparison of two devices goes."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.kernel.tolerance import FORMATS, agree, tolerance

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(("dtype", "want", "have", "same"), [
    (dtypes.int64, [2**62, 1], [2**62 + 1, 1], [False, True]),
    (dtypes.bool_, [True, False], [True, True], [True, False]),
    (dtypes.float32, [NAN, INF, 1, 0], [NAN, INF, 1.00001, NAN], [True, True, True, False]),
    (dtypes.float64, [1.0, 0.0], [1.00001, 1e-10], [False, True]),
])
def test_integers_agree_exactly_and_sums_but_for_their_order(dtype, want, have, same):
    want, have = np.array(want, dtype.numpy), np.array(have, dtype.numpy)
    assert agree(have, want, dtype, "sum").tolist() == same


def test_exact_floats_agree_by_value_and_sign():
    want, have = np.float32([0.0, NAN, 1.0, INF, -0.0]), np.float32([-0.0, NAN, 1.0 + 2**-23, INF, -0.0])
    assert agree(have, want, dtypes.float32, "exact").tolist() == [False, True, False, True, True]


@pytest.mark.parametrize("dtype", dtypes.FLOATS)
def test_a_kind_allows_so_many_spacings(dtype):
    spacing = FORMATS[dtype.name].spacing
    one = np.array([1.0])
    assert agree(one + 3 * spacing, one, dtype, "rounded").all()
    assert not agree(one + 4 * spacing, one, dtype, "rounded").any()
    assert agree(one + 16 * spacing, one, dtype, "function").all()
    assert not agree(one + 25 * spacing, one, dtype, "function").any()


def test_widening_multiplies_what_is_allowed_but_not_of_what_is_exact():
    plain, wide = (tolerance(dtypes.float32, "rounded", widening=w) for w in (1.0, 4.0))
    assert wide.relative == 4 * plain.relative
    assert tolerance(dtypes.float32, "exact", widening=4.0) == (0.0, 0.0)
    assert tolerance(dtypes.int32, "sum", widening=4.0) == (0.0, 0.0)


def test_the_table_has_every_float_and_numpy_s_numbers():
    assert set(FORMATS) == {dtype.name for dtype in dtypes.FLOATS}
    for name in ("float16", "float32", "float64"):
        info = np.finfo(name)
        assert FORMATS[name][:2] == (float(info.eps), float(info.smallest_normal))

"""The probe's code computes what it is timed for, and its figures are shown where they belong."""
from __future__ import annotations

import ctypes
import json

import numpy as np
import pytest

from benchmarks import limits
from benchmarks.criteria import OURS
from benchmarks.limits import Limits
from benchmarks.report import RESULTS, workloads_table
from benchmarks.turns import Row, Turn
from benchmarks.workloads import WORKLOADS

LANES = limits._lanes()


@pytest.mark.parametrize("runs", limits._RUNS)
def test_every_element_is_read_once(runs):
    name = f"read{runs}"
    engine = limits._compiled(limits._source(LANES), (name,))
    function = engine.function(name, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    begin, end = 1024, 1024 + 4 * limits._SUMS * LANES
    raw = np.zeros(end + 2048, np.float32)
    array = raw[-raw.ctypes.data % 64 // 4:]
    array[:end + 1024] = np.arange(end + 1024)
    sums = np.zeros(limits._SUMS * LANES, np.float32)
    function(begin, end, array.ctypes.data, sums.ctypes.data)
    assert sums.sum() == array[begin:end].sum()


def of_limit(name, read):
    work = WORKLOADS[name]
    row = Row(work, {OURS: [Turn(work.amount / 40, 1.0)]}, [Limits(100.0, 50.0, 1.0, read)])
    return workloads_table([row], [OURS])


def test_rows_that_only_read_show_both_shares():
    assert "80% stream, 89% read" in of_limit("sum64m", read=45.0)
    assert "80% stream" in of_limit("softmax4k", read=45.0)
    assert "read" not in of_limit("softmax4k", read=45.0)


def test_floors_and_rounds_do_not_depend_on_reads():
    assert Limits(100, 50, 1, 45).moved(Limits(100, 50, 1, 20)) == 0
    assert Limits(100, 50, 1, 45).mean(Limits(100, 50, 1, 35)).read == 40
    assert "read" not in of_limit("sum64m", read=0.0)


def test_limits_of_earlier_runs_are_still_understood():
    files = list(RESULTS.glob("*.json"))
    rounds = [Limits(**found) for file in files for row in json.loads(file.read_text())["rows"].values()
              for found in row["limits"]]
    assert rounds
    assert all(found.of("read") >= 0 for found in rounds)

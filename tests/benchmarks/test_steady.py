from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.steady import Part, complaints, run

PART = Part(milliseconds=8.0, resident_mib=300.0, reserved_mib=64.0, objects=100_000)


def test_a_run_counts_its_steps():
    taken = []
    part = run(lambda: taken.append(1), 7)
    assert len(taken) == 7
    assert part.milliseconds < 1000
    assert part.resident_mib > 10
    assert part.objects > 0


def test_what_does_not_grow_is_flat():
    slow_start = replace(PART, milliseconds=30.0, resident_mib=290.0)
    assert complaints([slow_start, PART, replace(PART, milliseconds=8.7, resident_mib=301.0)]) == []


def test_a_part_beside_another_program_is_no_growth():
    loaded = replace(PART, milliseconds=12.0)
    assert complaints([PART, PART, loaded, loaded, PART, loaded]) == []
    grown, = complaints([PART, PART, PART, loaded, loaded, loaded])
    assert "1.50 times as long" in grown


@pytest.mark.parametrize(("last", "text"), [
    (replace(PART, milliseconds=9.0), "1.12 times as long"),
    (replace(PART, resident_mib=310.0), "resident memory grew by 10.0 MiB"),
    (replace(PART, reserved_mib=65.0), "devices gave 1.0 MiB"),
])
def test_what_grows_is_named(last, text):
    found = complaints([PART, PART, last])
    assert len(found) == 1
    assert text in found[0]

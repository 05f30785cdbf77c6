"""Outputs that no cache would keep are marked where every store fills whole lines."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pluggrad import Tensor, dtypes
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.tune import tune
from tests.golden.expressions import TARGET, stages, stored, value

# a cache so small that matrices of 64 x 64 floats are many times as large
STREAMING = replace(TARGET.capabilities, vector_bytes=64, vector_registers=32, shared_cache_bytes=1 << 13,
                    streaming_line_bytes=64)


def streamed(result: Tensor, **changes: int) -> list[bool]:
    """For each output of the one kernel, whether it is streamed."""
    (built,) = stages(value(result)).built
    phases = tune(built.kernel, replace(STREAMING, **changes)).phases
    return [b.streamed for b in phases[-1].kernel.buffers if b.role == "out"]


WHOLE_LINES: dict[str, Callable[[], Tensor]] = {
    "elements": lambda: stored(64, 64) + stored(64, 64),
    "an odd number of elements": lambda: stored(4097) + stored(4097),
    "rows": lambda: stored(64, 64).softmax(1),
    "columns": lambda: stored(64, 64).softmax(0),
    "blocks": lambda: stored(64, 64).T.contiguous(),
    "an odd number of rows": lambda: stored(63, 64) * stored(64),
    "rows that begin within lines": lambda: stored(16, 513).softmax(1),
    "elements that vary by such rows": lambda: stored(16, 519) * stored(16, 1),
    "a part of such rows": lambda: stored(2, 16, 600)[:, :, 3:517] * stored(16, 1),
    "narrow elements, by several stores a line": lambda: stored(128, 128) > stored(128, 128),
}
OTHERS: dict[str, Callable[[], Tensor]] = {
    "odd rows of a few vectors": lambda: stored(64, 65).softmax(1),
    "odd columns": lambda: stored(65, 64).T.contiguous(),
    "small": lambda: stored(16, 16) + stored(16, 16),
    "a small output of much": lambda: stored(256, 64).sum(1),
}


@pytest.mark.parametrize("name", WHOLE_LINES)
def test_whole_lines_are_streamed(name: str) -> None:
    assert streamed(WHOLE_LINES[name]()) == [True]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_small_or_fills_no_lines_is_not(name: str) -> None:
    assert streamed(OTHERS[name]()) == [False]


@pytest.mark.parametrize("result", [stored(16, 512).softmax(1), stored(16, 513).softmax(1)],
                         ids=["lines", "within lines"])
def test_rows_are_shifted_only_where_they_begin_within_lines(result: Tensor) -> None:
    (built,) = stages(value(result)).built
    (phase,) = tune(built.kernel, STREAMING).phases
    shifted = any(n.op is ops.HEAD for n in toposort(phase.kernel.stores))
    assert shifted == (result.shape[1] % 16 > 0)


def test_only_where_the_device_can_and_the_cache_is_too_small() -> None:
    result = stored(64, 64) + stored(64, 64)
    assert streamed(result, streaming_line_bytes=0) == [False]
    assert streamed(result, shared_cache_bytes=1 << 20) == [False]


def test_lanes_that_fill_a_part_of_a_line_are_no_whole_one() -> None:
    assert streamed(stored(64, 64).cast(dtypes.int8).T.contiguous(), vector_bytes=16) == [False]

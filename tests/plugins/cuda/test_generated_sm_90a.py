"""NVRTC takes every kernel that the conformance suite generates for sm_90a.

Each architecture has a file: the tests of a file run one after another.
"""
from __future__ import annotations

import pytest

from tests.plugins.cuda.generated import check_part, skip_without_compiler
from tests.shims.collection import PARTS

skip_without_compiler()


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_kernel_becomes_machine_code(part: str) -> None:
    check_part("sm_90a", part)

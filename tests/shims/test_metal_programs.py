"""The rest of them: level 1's last part, programs and training steps (levels 2 and 3), launches (0 and 4)."""
from __future__ import annotations

import pytest

from tests.shims.checks import check_part


@pytest.mark.slow
@pytest.mark.parametrize(("part", "at_least"), [
    ("launches", 25), ("programs", 180), ("kernels-2", 700)])
def test_kernels_compute_what_the_suite_expects(part: str, at_least: int) -> None:
    check_part("apple9", part, at_least)

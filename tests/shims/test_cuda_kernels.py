"""Every kernel that level 1 of the conformance suite generates for an NVIDIA GPU, run on the CPU."""
from __future__ import annotations

import pytest

from tests.shims.checks import check_part


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kernels-0", "kernels-1"])
def test_kernels_compute_what_the_suite_expects(part: str) -> None:
    check_part("sm_90a", part, at_least=800)

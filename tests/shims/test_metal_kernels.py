"""Every kernel that level 1 of the conformance suite generates for an Apple GPU, run on the CPU."""
from __future__ import annotations

import pytest

from tests.shims.checks import check_part


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kernels-0", "kernels-1"])
def test_kernels_compute_what_the_suite_expects(part: str) -> None:
    check_part("apple9", part, at_least=700)


@pytest.mark.slow
def test_bfloat16_as_its_bits_where_the_language_lacks_it() -> None:
    check_part("apple7", "bfloat16", at_least=200)

"""NVRTC takes every kernel that the conformance suite generates for sm_90a.

Each architecture has a file: the tests of a file run one after another.
"""
from __future__ import annotations

import sys

import pytest

from pluggrad.plugin_api import DeviceUnavailable
from pluggrad_cuda import nvrtc
from tests.plugins.cuda.generated import compiled, spilled
from tests.shims.collection import PARTS

try:
    nvrtc.library()
except DeviceUnavailable as error:
    pytest.skip(f"needs NVRTC: {error}", allow_module_level=True)
if not sys.platform.startswith("linux"):
    pytest.skip("needs Linux: kernels are collected there", allow_module_level=True)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_kernel_becomes_machine_code(part: str) -> None:
    found = compiled("sm_90a", part)
    assert len(found) > (20 if part == "launches" else 500)
    assert part != "programs" or spilled(found) == []

"""What is read from machine code, of code that NVRTC made."""

from __future__ import annotations

import pytest

from pluggrad_cuda import nvrtc
from pluggrad_cuda.cubin import Cubin

SOURCE = 'extern "C" __global__ void k(float *a) { a[0] = 1; }'


@pytest.mark.parametrize(("architecture", "capability"), [("sm_80", (8, 0)), ("sm_90a", (9, 0))])
def test_the_header_of_machine_code(architecture, capability):
    if next(nvrtc.candidates(), None) is None:
        pytest.skip("needs NVRTC")
    library = nvrtc.library()
    image, _ = library.compile(SOURCE, [f"--gpu-architecture={architecture}"])
    found = Cubin.read(image)
    assert found == Cubin(capability, library.version)
    assert found.runs_on(capability)
    assert found.runs_on((8, 6)) == (capability == (8, 0))
    assert not found.runs_on((10, 0))


@pytest.mark.parametrize("image", [b"", b"\x7fELF", bytes(200), b"\x7fELF\x02\x01" + bytes(200)])
def test_what_is_no_cubin(image):
    assert Cubin.read(image) is None

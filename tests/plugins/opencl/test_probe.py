"""Finding devices: their order and names, and what is said where there is none."""

from __future__ import annotations

from types import SimpleNamespace

import pyopencl as cl
import pytest

from pluggrad.plugin_api import DeviceUnavailable, UnknownDevice
from pluggrad_opencl import driver
from pluggrad_opencl.plugin import OpenCLBackend

PROBE = """
from pluggrad_opencl.plugin import OpenCLBackend
found = OpenCLBackend().probe()
print(found.count, found.reason, '|', found.fix)
"""
OPEN = """
from pluggrad import Tensor
try:
    Tensor([1.0], device='opencl')
except Exception as error:
    print(repr(error))
"""
ABSENT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ImportError({text!r})
sys.meta_path.insert(0, Missing())
"""


class Platform:
    """What the driver module asks of a platform."""

    def __init__(self, name: str, **devices: int) -> None:
        self.name = name
        self._devices = [SimpleNamespace(name=device, type=kind, platform=self)
                         for device, kind in devices.items()]

    def get_devices(self) -> list[SimpleNamespace]:
        if not self._devices:
            raise cl.RuntimeError(cl._cl._ErrorRecord(msg="", code=-1, routine="clGetDeviceIDs"))
        return self._devices


@pytest.fixture
def platforms(monkeypatch):
    """`platforms(...)`: the machine has these."""
    def have(*found: Platform) -> None:
        monkeypatch.setattr(cl, "get_platforms", lambda: list(found))
        driver.devices.cache_clear()
    yield have
    monkeypatch.undo()
    driver.devices.cache_clear()


GPU, CPU, ACCELERATOR = cl.device_type.GPU, cl.device_type.CPU, cl.device_type.ACCELERATOR


def test_gpus_and_accelerators_come_before_cpus_and_platforms_by_name(platforms):
    platforms(Platform("Zeta", host=CPU, small=GPU), Platform("Empty"),
              Platform("Alpha", dsp=ACCELERATOR, cores=CPU), Platform("Mid", large=GPU))
    found = OpenCLBackend().probe()
    assert found.names == ("dsp (Alpha)", "large (Mid)", "small (Zeta)", "cores (Alpha)", "host (Zeta)")
    assert (found.count, found.tier) == (5, None)


def test_the_order_in_which_the_loader_lists_platforms_does_not_matter(platforms):
    names = []
    for order in (1, -1):
        platforms(*[Platform("A", one=GPU, two=GPU), Platform("B", three=GPU)][::order])
        names.append(OpenCLBackend().probe().names)
    assert names[0] == names[1] == ("one (A)", "two (A)", "three (B)")


def test_processors_alone_are_not_the_first_choice(platforms):
    platforms(Platform("Only", host=CPU))
    assert OpenCLBackend().probe().tier < 10 < OpenCLBackend.tier


def test_platforms_without_a_device(platforms):
    platforms(Platform("Empty"), Platform("Bare"))
    found = OpenCLBackend().probe()
    assert found.count == 0
    assert found.reason == "no device on any OpenCL platform (Empty, Bare)"
    assert "pip install 'pluggrad-opencl[pocl]'" in found.fix


def test_a_driver_that_breaks_when_asked_is_a_reason(monkeypatch, platforms):
    platforms()
    monkeypatch.setattr(cl, "get_platforms", lambda: 1 / 0)
    found = OpenCLBackend().probe()
    assert (found.count, found.reason) == (0, "the OpenCL driver failed: division by zero")


def test_no_platform_is_a_reason_and_an_error_of_the_device(run_child):
    said = run_child(PROBE, OCL_ICD_VENDORS="/nowhere")
    assert said == ("0 no OpenCL platform is installed | "
                    "pip install 'pluggrad-opencl[pocl]', or install a driver for your device")
    raised = run_child(OPEN, OCL_ICD_VENDORS="/nowhere")
    assert raised.startswith("DeviceUnavailable(")
    assert "no OpenCL platform is installed" in raised


@pytest.mark.parametrize(("module", "text"), [
    ("pyopencl", "No module named 'pyopencl'"),
    ("pyopencl._cl", "libOpenCL.so.1: cannot open shared object file"),
])
def test_a_missing_library_is_a_reason(run_child, module, text):
    said = run_child(ABSENT.format(module=module, text=text) + PROBE)
    assert said == f"0 pyopencl cannot be imported: {text} | pip install --force-reinstall pyopencl"


def test_devices_that_do_not_exist(backend):
    with pytest.raises(UnknownDevice, match="opencl:99 does not exist"):
        backend.open(99, "")
    with pytest.raises(UnknownDevice, match="opencl@x does not exist"):
        backend.target(0, "x")


def test_two_devices_of_one_platform_copy_to_each_other(run_child, backend):
    if "PoCL" not in driver.device(0).version:
        pytest.skip("needs PoCL, which makes as many devices as it is asked for")
    code = """
import numpy as np
from pluggrad import Tensor
x = Tensor(np.arange(6, dtype=np.float32), device='opencl:0') * 2
y = x.to('opencl:1') + 1
from pluggrad_opencl.plugin import OpenCLBackend as B
a, b = B().open(0, '').allocator, B().open(1, '').allocator
s, t = a.alloc(8), b.alloc(256)
a.copyin(s, 0, memoryview(b'abcdefgh'))
b.copy_peer(t, 130, a, s, 2, 4)
found = bytearray(4)
b.copyout(memoryview(found), t, 130)
print(y.device, y.tolist(), b.can_access(a), bytes(found))
"""
    assert run_child(code, POCL_DEVICES="pthread pthread") == (
        "opencl:1 [1.0, 3.0, 5.0, 7.0, 9.0, 11.0] True b'cdef'")


def test_unavailable_is_what_the_driver_raises_without_platforms(platforms):
    platforms()
    with pytest.raises(DeviceUnavailable):
        driver.devices()

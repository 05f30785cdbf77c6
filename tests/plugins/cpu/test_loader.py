"""Binaries become kernels: sharing, errors, unloading."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from pluggrad.plugin_api import KernelFault, Signature, dtypes
from pluggrad_cpu.device import CpuDevice
from pluggrad_cpu.loader import Loader, loader
from tests.plugins.cpu.conftest import MakeDevice
from tests.plugins.cpu.kernels import ADD, COUNT, array, compiled, filled, kernel, launch, load


@pytest.fixture
def device(make_device: MakeDevice) -> CpuDevice:
    return make_device("native")


def test_kernels_of_one_binary_share_a_library(device: CpuDevice) -> None:
    both = compiled(ADD, COUNT)
    assert loader().load(both) is loader().load(bytes(bytearray(both)))
    add, count = (device.load(both, Signature(name, (), (), 1)) for name in ("add", "count"))
    assert add.address != count.address


def test_what_is_no_object_file_is_refused(device: CpuDevice) -> None:
    with pytest.raises(KernelFault, match="7 bytes cannot be loaded"):
        device.load(b"garbage", Signature("add", (), (), 1))


def test_a_binary_without_the_kernel_is_refused(device: CpuDevice) -> None:
    with pytest.raises(KernelFault, match="'subtract' cannot be linked"):
        device.load(compiled(ADD), Signature("subtract", (), (), 1))
    assert device.load(compiled(ADD), Signature("add", (), (), 1)).address


def test_a_kernel_that_needs_what_the_process_lacks_is_refused(device: CpuDevice) -> None:
    source = kernel("lost", "", "call void @pluggrad_missing()") + "declare void @pluggrad_missing()"
    with pytest.raises(KernelFault, match="'lost' cannot be linked"):
        device.load(compiled(source), Signature("lost", (), (), 1))


def test_libraries_are_unmapped_when_the_last_user_goes(device: CpuDevice) -> None:
    binary = compiled(COUNT.replace("add i64 %old, 1", "add i64 %old, 5"))
    executable = device.load(binary, Signature("count", (), (), 1))
    run = device.prepare([launch(executable, 10, 0.0, 0)], ())
    del executable
    gc.collect()
    block = filled(device, np.zeros(10, np.int64))
    run([block], ())
    assert (array(device, block, "int64") == 5).all()
    assert binary in loader()._libraries
    del run
    gc.collect()
    assert binary not in loader()._libraries


def test_a_kernel_loaded_again_works_again() -> None:
    own = Loader()
    for _ in range(20):
        assert own.load(compiled(ADD, COUNT)).address("count")
        gc.collect()


def test_a_kernel_of_any_thread_may_be_called(device: CpuDevice) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    block = filled(device, np.zeros(4, np.float32))
    device.submit([launch(add, 4, 0.0, 0, 0)], [block], [1.5])
    assert (array(device, block, "float32") == 1.5).all()

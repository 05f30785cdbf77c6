"""Binaries: made together, kept for a device and its driver, and what a driver that refuses leaves behind."""

from __future__ import annotations

import pickle

import pytest

from pluggrad.plugin_api import CompileError, KernelFault, Signature
from pluggrad_opencl.compiler import OpenCLToolchain
from tests.plugins.opencl import kernels

TRAIN = """
import numpy as np
from pluggrad import Tensor
from pluggrad.runtime.counters import GlobalCounters
x = Tensor(np.ones((8, 8), np.float32), device="opencl")
assert (x @ x).softmax(1).sum().item() == 8
print(GlobalCounters.compiled, GlobalCounters.plan_disk_hits > 0)
"""


@pytest.fixture
def toolchain(backend) -> OpenCLToolchain:
    return backend.toolchain(backend.target(0, ""))


def test_kernels_compiled_together_share_a_binary(device, toolchain):
    first, second = toolchain.compile_many([kernels.ADD, kernels.SPIN])
    assert first is second
    for name in ("add", "spin"):
        device.load(first, Signature(name, (), (), 1))
    assert toolchain.compile_many([]) == []


def test_a_pickled_toolchain_compiles(device, toolchain):
    toolchain.compile(kernels.ADD)
    again = pickle.loads(pickle.dumps(toolchain))
    assert again.cache_key == toolchain.cache_key
    device.load(again.compile(kernels.ADD), Signature("add", (), (), 1))


def test_the_error_for_a_refused_kernel_carries_its_source_and_log(toolchain):
    with pytest.raises(CompileError, match="undeclared") as caught:
        toolchain.compile_many([kernels.ADD, kernels.BROKEN])
    error = caught.value
    assert error.source == kernels.BROKEN  # and not the kernel compiled beside it
    assert "undeclared" in error.log


def test_the_cache_key_names_device_and_driver(toolchain):
    for part in toolchain.target.arch.split("|"):
        assert part in toolchain.cache_key


def test_bytes_that_are_no_program_are_refused(device, toolchain):
    good = toolchain.compile(kernels.ADD)
    for binary in (b"", b"not a program", good[:-1], good[:200] + b"x" + good[201:]):
        with pytest.raises(KernelFault, match="expected a sealed binary"):
            device.load(binary, Signature("add", (), (), 1))


def test_a_kernel_that_a_program_lacks_is_refused(device, toolchain):
    with pytest.raises(KernelFault, match="load kernel other"):
        device.load(toolchain.compile(kernels.ADD), Signature("other", (), (), 1))


def test_a_second_process_compiles_nothing(backend, run_child, fresh_cache):
    compiled, from_disk = run_child(TRAIN).split()
    assert int(compiled) > 0
    assert from_disk == "False"
    assert run_child(TRAIN) == "0 True"

"""What goes wrong on the double: commands that fail, a lost device, a fork, source that is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad.plugin_api import CompileError, DeviceLost, KernelFault, OutOfMemoryError

X = np.arange(70, dtype=np.int32)
_PAGE_FAULT, _OUT_OF_MEMORY, _REMOVED = 3, 8, 11  # codes of MTLCommandBufferError

FORK = """
import os
from pluggrad import Tensor
(Tensor([1.0], device="metal") + 1).tolist()
read, write = os.pipe()
if os.fork() == 0:
    try:
        (Tensor([1.0], device="metal") + 2).tolist()
        os.write(write, b"no error")
    except Exception as error:
        os.write(write, f"{type(error).__name__}: {error}".encode())
    os._exit(0)
print(os.read(read, 1000).decode())
"""


def submitted(device, kernel):
    return device.submit([kernel.launch()], kernel.blocks(np.zeros_like(X), X), [1, 1])


def test_a_fault_names_the_kernels_and_stays(machine, device, kernel):
    slots = kernel.blocks(np.zeros_like(X), X)
    machine.failures = [_PAGE_FAULT]
    event = device.submit([kernel.launch()], slots, [1, 1])
    for _ in range(2):
        with pytest.raises(KernelFault, match=rf"{kernel.signature.name}: the GPU stopped \(code 3\)"):
            event.wait()
    device.synchronize()  # whoever waited was told
    device.submit([kernel.launch()], slots, [1, 1]).wait()
    assert (kernel.read(slots[0]) == X + 1).all()


def test_a_fault_that_nobody_waited_for_is_found_by_synchronize(machine, device, kernel):
    slots = kernel.blocks(np.zeros_like(X), X)
    machine.failures = [_PAGE_FAULT]
    device.submit([kernel.launch()], slots, [1, 1])
    device.submit([kernel.launch()], slots, [1, 1])
    with pytest.raises(KernelFault):
        device.synchronize()
    device.synchronize()


def test_memory_that_ends_while_commands_run(machine, device, kernel):
    machine.failures = [_OUT_OF_MEMORY]
    with pytest.raises(OutOfMemoryError):
        submitted(device, kernel).wait()


def test_a_device_that_is_removed_is_lost_for_good(machine, device, kernel):
    slots = kernel.blocks(np.zeros_like(X), X)
    machine.failures = [_REMOVED]
    event = device.submit([kernel.launch()], slots, [1, 1])
    for _ in range(2):
        with pytest.raises(DeviceLost):
            event.wait()
    with pytest.raises(DeviceLost, match="other devices go on"):
        device.submit([kernel.launch()], slots, [1, 1])


def test_refused_source_is_an_error_with_lines(machine, device):
    from pluggrad_metal.compiler import MetalToolchain

    with pytest.raises(CompileError, match="expected unqualified-id") as caught:
        MetalToolchain(device.target).compile("no kernel }")
    assert "    1  no kernel }" in caught.value.log


def test_a_binary_without_the_kernel_is_refused_by_name(device, kernel):
    from dataclasses import replace

    with pytest.raises(KernelFault, match=f"one of {kernel.signature.name}"):
        device.load(kernel.binary, replace(kernel.signature, name="another"))


def test_math_is_precise_before_macos_15_too(machine, device, make_kernel):
    machine.respects_math_mode = False
    machine.calls.clear()
    make_kernel(device, 30)  # the double refuses fast math
    assert "setFastMathEnabled_" in machine.names()


def test_a_forked_child_is_told(run_child):
    assert "forked" in run_child("-c", FORK)

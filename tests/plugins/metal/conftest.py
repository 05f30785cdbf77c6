"""The double of Apple's API in place of pyobjc, a device opened on it, and kernels for that device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pluggrad_metal
from pluggrad.lower import lower
from pluggrad.plugin_api import Launch, SlotRef
from pluggrad.runtime.compilation import signature_of
from pluggrad.testing.conformance.kernels import affine
from pluggrad.tune import tune
from pluggrad_metal.compiler import MetalToolchain
from pluggrad_metal.render import MetalRenderer

DOUBLE = Path(__file__).parent / "double"
# modules that import pyobjc, and so have to be imported anew
DRIVEN = ("driver", "queue", "encoder", "bytewise", "memory", "launcher", "libraries", "pipelines", "device")


def _forget() -> dict[str, Any]:
    for name in DRIVEN:  # `from pluggrad_metal import driver` asks the package first
        vars(pluggrad_metal).pop(name, None)
    ours = {path.stem for path in DOUBLE.glob("*.py")} | {f"pluggrad_metal.{name}" for name in DRIVEN}
    return {name: sys.modules.pop(name) for name in ours if name in sys.modules}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, fresh_cache: Path) -> Iterator[Any]:
    """The machine of the double. At the end of the test no rule of Apple's may have been broken."""
    before, render = _forget(), MetalRenderer.render
    monkeypatch.syspath_prepend(str(DOUBLE))
    import Metal

    yield Metal.MACHINE
    misuses = Metal.MACHINE.misuses
    MetalRenderer.render = render
    _forget()
    sys.modules.update(before)
    assert misuses == []


@pytest.fixture
def backend(machine: Any) -> Any:
    from pluggrad_metal.plugin import MetalBackend

    return MetalBackend()


@pytest.fixture
def device(machine: Any, backend: Any) -> Iterator[Any]:
    device = backend.open(0, "")
    yield device
    machine.held = False
    device.close()


@pytest.fixture
def private(machine: Any, backend: Any) -> Iterator[Any]:
    """A device whose memory the host does not see."""
    from gpu import Device

    machine.devices.append(Device("AMD Radeon Pro 5500M", family=0, unified=False))
    device = backend.open(0, "")
    yield device
    device.close()


class Kernel:
    """out = x * scale + shift of int32s, on a device."""

    def __init__(self, device: Any, size: int) -> None:
        self.device, self.size = device, size
        toolchain = MetalToolchain(device.target)
        kernel = tune(affine(size), device.target.capabilities).phases[0].kernel
        self.program = lower(kernel, device.target)
        self.source = toolchain.render(self.program)
        self.binary = toolchain.compile(self.source)
        self.signature = signature_of(kernel, device.target)
        self.executable = device.load(self.binary, self.signature)

    def launch(self, out: int = 0, x: int = 1, values: Sequence[int] = (0, 1),
               barrier: bool = True) -> Launch:
        """From one slot to another."""
        return Launch(self.executable, (SlotRef(out), SlotRef(x)), tuple(values), self.signature.tasks,
                      barrier=barrier, group=self.signature.group)

    def blocks(self, *arrays: np.ndarray) -> list[Any]:
        """Memory of the device with these contents."""
        found = []
        for array in arrays:
            found.append(self.device.allocator.alloc(array.nbytes))
            self.device.allocator.copyin(found[-1], 0, memoryview(array))
        return found

    def read(self, block: Any) -> np.ndarray:
        """What a block holds, as int32s."""
        data = np.empty(block.nbytes // 4, np.int32)
        self.device.allocator.copyout(memoryview(data), block, 0)
        return data


@pytest.fixture
def kernel(device: Any) -> Kernel:
    return Kernel(device, 70)


@pytest.fixture
def make_kernel() -> Callable[[Any, int], Kernel]:
    return Kernel


@pytest.fixture
def run_child(fresh_cache: Path) -> Callable[..., str]:
    """`run_child(*arguments)`: what a Python process prints in which the double stands for pyobjc."""

    def run(*arguments: str, **variables: str) -> str:
        path = os.pathsep.join([str(DOUBLE), os.environ.get("PYTHONPATH", "")])
        made = subprocess.run([sys.executable, *arguments], env=os.environ | {"PYTHONPATH": path} | variables,
                              capture_output=True, text=True, timeout=300, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout.strip()

    return run

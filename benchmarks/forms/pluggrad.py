"""The forms in pluggrad, which ships them, and the whole programs."""
from __future__ import annotations

import pluggrad
from benchmarks import programs
from benchmarks.forms import Call, Library
from benchmarks.gpu_rows import REPLAYED
from benchmarks.workloads import Workload
from pluggrad import Device, GlobalCounters, Tensor, jit
from pluggrad.runtime.limits import measure
from pluggrad.runtime.sessions import session
from pluggrad.target import DeviceId
from pluggrad.testing import forms


def _replay(workload: Workload) -> Call:
    tensors = [Tensor(array).realize() for array in workload.arrays()]

    @jit
    def step(h: Tensor, w: Tensor) -> Tensor:
        for _ in range(REPLAYED):
            h = (h @ w).softmax(1)
        return h

    device = Device[Device.DEFAULT]

    def run() -> Tensor:
        result: Tensor = step(*tensors)
        device.synchronize()
        return result

    return run


def _make(workload: Workload) -> Call:
    if workload.form in programs.PROGRAMS:
        return programs.make("pluggrad", workload.form)
    return _replay(workload) if workload.form == "replay" else forms.make(workload)


def _limits() -> tuple[float, float] | None:
    found = measure(session(DeviceId.parse(Device.DEFAULT)))
    return None if found is None else (found.operations * 1e-9, found.bytes * 1e-9)


def library() -> Library:
    """pluggrad on its default device."""
    Tensor.training = True
    version = f"{pluggrad.__version__} on {Device.DEFAULT}"
    return Library(version, _make, lambda: GlobalCounters.kernels, limits=_limits)

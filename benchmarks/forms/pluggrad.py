"""The forms in pluggrad, which ships them, and the whole programs."""
from __future__ import annotations

from dataclasses import replace
from typing import Final

import pluggrad
from benchmarks import programs
from benchmarks.forms import Call, Library
from benchmarks.gpu_rows import REPLAYED
from benchmarks.workloads import Workload
from pluggrad import Context, Device, GlobalCounters, Tensor, jit
from pluggrad.runtime.limits import measure
from pluggrad.runtime.sessions import session
from pluggrad.target import DeviceId
from pluggrad.testing import forms


def _replay(workload: Workload) -> Call:
    tensors = [Tensor(array).realize() for array in workload.arrays()]

    @jit
    def step(h: Tensor, w: Tensor) -> Tensor:
        for _ in range(REPLAYED):
            h = (h @ w).tanh()
        return h

    device = Device[Device.DEFAULT]

    def run() -> Tensor:
        result: Tensor = step(*tensors)
        device.synchronize()
        return result

    return run


def _tf32(workload: Workload) -> Call:
    call = forms.make(replace(workload, form="matmul"))

    def run() -> object:
        with Context(MATMUL_PRECISION="tf32"):
            return call()

    return run


_OWN: Final = {"replay": _replay, "matmul_tf32": _tf32}


def _make(workload: Workload) -> Call:
    if workload.form in programs.PROGRAMS:
        return programs.make("pluggrad", workload.form)
    return _OWN.get(workload.form, forms.make)(workload)


def _limits() -> tuple[float, float] | None:
    found = measure(session(DeviceId.parse(Device.DEFAULT)))
    return None if found is None else (found.operations * 1e-9, found.bytes * 1e-9)


def library() -> Library:
    """pluggrad on its default device."""
    Tensor.training = True
    version = f"{pluggrad.__version__} on {Device.DEFAULT}"
    return Library(version, _make, lambda: GlobalCounters.kernels, limits=_limits)

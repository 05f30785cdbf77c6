"""The forms in pluggrad, which ships them."""
from __future__ import annotations

import pluggrad
from benchmarks.forms import Library
from pluggrad import Device, GlobalCounters, Tensor
from pluggrad.testing.forms import make


def library() -> Library:
    """pluggrad on its default device."""
    Tensor.training = True
    return Library(f"{pluggrad.__version__} on {Device.DEFAULT}", make, lambda: GlobalCounters.kernels)

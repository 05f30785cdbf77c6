"""What PLUGGRAD_VALIDATE lets pass: where factors of float32 products may be rounded, what that loses."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.config import Context
from pluggrad.device.contract import SlotRef
from pluggrad.errors import InternalError
from pluggrad.runtime.validation import Validation
from pluggrad.target import Capabilities, MatrixUnit
from pluggrad.tune.heuristics import tune_kernel
from tests.matrix_products import MatrixProduct

HAS = Capabilities(
    dtypes=frozenset({"float32"}), arithmetic=frozenset({"float32"}), vector_bytes=16, max_group=128,
    subgroup_width=32, scratch_bytes=160 << 10, matrix_units=(MatrixUnit(16, 16, 8, "float32"),))
SIZE, STEPS = 64, 320


def rounded(x: np.ndarray) -> np.ndarray:
    """To 10 bits of fraction."""
    return ((x.view(np.uint32) + 0x1000) & ~np.uint32(0x1FFF)).view(np.float32)


def read(target: memoryview, array: np.ndarray, offset: int) -> None:
    target[:] = array.data.cast("B")[offset:offset + target.nbytes]


@pytest.mark.parametrize(("how", "precision", "passes"), [
    (rounded, "tf32", True), (rounded, "float32", False), (np.array, "float32", True),
    (lambda x: x * np.float32(1.005), "tf32", False)], ids=["rounded", "unasked", "exact", "wrong"])
def test_products_are_compared_as_precisely_as_they_are_computed(how, precision, passes):
    with Context(MATMUL_PRECISION="tf32"):
        (kernel,) = tune_kernel(MatrixProduct(SIZE, STEPS, SIZE, dtypes.float32).kernel(), HAS)
    assert any(axis.kind == "MATRIX" for axis in kernel.axes)
    rng = np.random.default_rng(5)
    slots = [rng.uniform(-1, 1, b.size).astype(np.float32) for b in kernel.arguments]
    assert [b.size for b in kernel.arguments] == [SIZE * SIZE, SIZE, STEPS * SIZE, SIZE * STEPS]
    device = SimpleNamespace(allocator=SimpleNamespace(copyout=read),
                             target=SimpleNamespace(capabilities=HAS))
    command = SimpleNamespace(args=[SlotRef(i) for i in range(len(slots))], values=())
    with Context(MATMUL_PRECISION=precision):
        validation = Validation(device, command, kernel, slots)
        right, left = slots[2].reshape(STEPS, SIZE), slots[3].reshape(SIZE, STEPS)
        slots[0][:] = (how(left) @ how(right) + slots[1]).reshape(-1)
        with nullcontext() if passes else pytest.raises(InternalError, match="the interpreter's values"):
            validation.check(())

"""What the host computes between two kernels of the device: values go down and come up again whole."""
from __future__ import annotations

from typing import Final

import numpy as np

from pluggrad import jit
from pluggrad.tensor import Tensor
from pluggrad.testing.conformance import samples
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

_SIZES: Final = (1, 3, 64, 129)


def _system(size: int, run: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two well-conditioned systems of equations, and right sides."""
    rng = samples.seeded("host", str(size), str(run))
    matrices = rng.uniform(-1, 1, (2, size, size)) / size + 2 * np.eye(size)
    return matrices.astype(np.float32), rng.uniform(-1, 1, (2, size, 3)).astype(np.float32)


@conformance("L2", cases=product(size=_SIZES), requires=requires(dtype="float32"),
             suggests="a copy to or from the host comes before what it depends on")
def host_functions(subject: Subject, size: int) -> None:
    """Equations solved on the host, of what a kernel computes and for what one computes."""
    a, b = _system(size)
    x = (subject.tensor(a).mT + 0).solve(subject.tensor(b) * 2) - 1
    want = np.linalg.solve(a.swapaxes(-1, -2).astype(np.float64), b * 2.0) - 1
    subject.expect(x, want, "float32", "sum", op=f"solve of {size}")


@conformance("L2", requires=requires(dtype="float32"),
             suggests="a replay gives the host what an earlier run computed")
def replayed_host_functions(subject: Subject) -> None:
    """A captured function that the host takes part in, with other tensors each time."""

    @jit
    def solved(a: Tensor, b: Tensor) -> Tensor:
        return (a + 0).solve(b).sin().realize()

    for run in range(3):
        a, b = _system(17, run)
        want = np.sin(np.linalg.solve(a.astype(np.float64), b))
        found = solved(subject.tensor(a), subject.tensor(b))
        subject.expect(found, want, "float32", "sum", op=f"call {run + 1}")

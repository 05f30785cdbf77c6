"""What a backend is offered to compute in its own way, and what it answers."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.matmul import Matmul
from pluggrad.target import Target


@dataclass(frozen=True, slots=True)
class Offer:
    """A kernel that is to run on `target`, before it is scheduled.

    kernel: exactly what to compute. matmul: the same in the words of a library, where it is nothing but a
    product of matrices.
    """

    kernel: Kernel
    target: Target
    matmul: Matmul | None


@dataclass(frozen=True, slots=True)
class Extern:
    """Code that the plugin brings for a kernel, instead of what the core would generate.

    name: what listings call it. payload: what `Device.load` is given for it, besides a signature whose
    `extern` is this name; it must not depend on the process, since plans are kept on disk.
    """

    name: str
    payload: bytes = b""


Claim = Callable[[Kernel], Extern | None]

"""Loading what is not a binary: an error, not a crash. A damaged file must not end the process."""
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from pluggrad.errors import CompileError, KernelFault
from pluggrad.kernel.text import kernel_text
from pluggrad.runtime.compilation import signature_of
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.l0.toolchains import made
from pluggrad.testing.conformance.mismatch import Mismatch
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject
from pluggrad.tune import tune

# from a binary that is right to one that is not
DAMAGED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "empty": lambda binary: b"",
    "zeros": lambda binary: bytes(1000),
    "random": lambda binary: random.Random(1).randbytes(2000),
    "first-half": lambda binary: binary[:len(binary) // 2],
    "text": lambda binary: b"this is no binary\n",
}


@conformance("L0", "load/garbage", cases=product(kind=DAMAGED), requires=requires(dtype="int32"),
             isolated=True, suggests="load() does not check what it is given")
def garbage(subject: Subject, kind: str) -> None:
    kernel = tune(affine(40), subject.capabilities).phases[0].kernel
    _, binary = made(subject.toolchain, subject.target, kernel_text(kernel))
    try:
        subject.device.load(DAMAGED[kind](binary), signature_of(kernel, subject.target))
    except (CompileError, KernelFault):
        return
    except Exception as error:
        raise Mismatch(f"loading {kind}", expected="CompileError or KernelFault",
                       got=f"{type(error).__name__}: {error}") from error
    raise Mismatch(f"loading {kind}", expected="CompileError or KernelFault", got="a kernel")

"""Copies between devices (feature `peer`), memory that the host sees in place (`zero_copy`) or lends."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pluggrad import dtypes
from pluggrad.device.contract import Device
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.mismatch import expect
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject


@contextmanager
def _other(subject: Subject) -> Iterator[Device]:
    """Another device of this type, or this one opened once more."""
    count = subject.backend.probe().count
    index = (subject.id.index + 1) % count
    device = subject.backend.open(index, subject.hardware.variant)
    try:
        yield device
    finally:
        device.close()


@conformance("L4", "peer/copy", cases=product(target=(0, 1, 4096), source=(0, 8, 1000)), isolated=True,
             requires=requires(feature="peer"),
             suggests="copy_peer() ignores an offset, or the order of copies")
def peer_copy(subject: Subject, target: int, source: int) -> None:
    old, new = np.arange(9000, dtype=np.uint8), np.random.default_rng(1).integers(0, 256, 9000, np.uint8)
    here = subject.upload(old)
    with _other(subject) as other:
        if not subject.allocator.can_access(other.allocator):  # type: ignore[attr-defined]
            return
        there = other.allocator.alloc(9000)
        other.allocator.copyin(there, 0, new.data)
        other.synchronize()
        subject.allocator.copy_peer(  # type: ignore[attr-defined]
            here, target, other.allocator, there, source, 2500)
        found = np.zeros(9000, np.uint8)
        subject.allocator.copyout(found.data, here, 0)
        want = old.copy()
        want[target:target + 2500] = new[source:source + 2500]
        other.allocator.free(there)
    subject.expect(found, want, "uint8", op="copy_peer")


@conformance("L4", "zero-copy/same-bytes", cases=product(nbytes=(1, 64, 5001)),
             requires=requires(feature="zero_copy"), suggests="host_view() shows other bytes than copyout()")
def same_bytes(subject: Subject, nbytes: int) -> None:
    data = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
    block = subject.upload(data)
    view = subject.allocator.host_view(block)  # type: ignore[attr-defined]
    expect(isinstance(view, memoryview) and view.nbytes == nbytes and not view.readonly, "host_view()",
           expected=f"a writable memoryview of {nbytes} bytes", got=repr(view))
    subject.expect(np.frombuffer(view, np.uint8), data, "uint8", op="host_view")
    view.cast("B")[nbytes // 2] = data[nbytes // 2] ^ 0xFF
    data[nbytes // 2] ^= 0xFF
    found = np.zeros(nbytes, np.uint8)
    subject.allocator.copyout(found.data, block, 0)
    subject.expect(found, data, "uint8", op="copyout after a write through host_view")


@conformance("L4", "zero-copy/kernels-see-it", requires=requires(dtype="int32", feature="zero_copy"),
             suggests="kernels and the host see different memory")
def kernels_see_it(subject: Subject) -> None:
    kernel = subject.load(affine(500))
    slots = [subject.upload(np.zeros(500, np.int32)), subject.upload(np.zeros(500, np.int32))]
    out, source = (np.frombuffer(subject.allocator.host_view(slot), np.int32)  # type: ignore[attr-defined]
                   for slot in slots)
    for step in range(5):
        source[:] = np.arange(500) + step
        subject.device.submit(kernel.commands((0, 1)), slots, (2, step)).wait()
        subject.expect(out.copy(), (np.arange(500, dtype=np.int32) + step) * 2 + step, "int32",
                       op="a launch between writes and reads of the host")
    subject.expect(subject.download(slots[0], dtypes.int32, 500), out.copy(), "int32", op="copyout")


@conformance("L4", "borrow/kernels-read-it", cases=product(offset=(0, 4, 64)),
             requires=requires(dtype="int32"),
             suggests="borrow() gives other memory than it was lent, or kernels want it aligned")
def kernels_read_what_is_lent(subject: Subject, offset: int) -> None:
    memory = np.zeros(500 + 32, np.int32)
    start = (-memory.ctypes.data % 64 + offset) // 4
    lent = memory[start:start + 500]
    lent[:] = np.arange(500)
    slot = subject.allocator.borrow(lent.ctypes.data, lent.nbytes)
    if slot is None:  # it may always ask for a copy
        return
    kernel, out = subject.load(affine(500)), subject.upload(np.zeros(500, np.int32))
    subject.device.submit(kernel.commands((0, 1)), [out, slot], (2, 3)).wait()
    subject.expect(subject.download(out, dtypes.int32, 500), np.arange(500, dtype=np.int32) * 2 + 3, "int32",
                   op="a launch over memory of the host")
    found = np.zeros(500, np.int32)
    subject.allocator.copyout(found.data.cast("B"), slot, 0)
    subject.expect(found, lent, "int32", op="copyout of memory of the host")

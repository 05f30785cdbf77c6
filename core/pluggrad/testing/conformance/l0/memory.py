"""Memory: what is written is read back, at any offset; what is freed comes back; too much is refused."""
from __future__ import annotations

import gc
import sys
from typing import Any, Final

import numpy as np

from pluggrad.device.contract import Allocation, CopyCommand, Device, FillCommand, SlotRef
from pluggrad.testing.conformance.mismatch import Mismatch, expect
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

SIZES: Final = (1, 3, 64, 1000, 65537, 4 << 20)
MIB: Final = 1 << 20
BLOCKS: Final = {"small": (16 << 10, 96 * MIB), "large": (16 * MIB, 480 * MIB)}  # of one, and of all
TOO_MUCH: Final = {"64-TiB": 1 << 46, "1-EiB": 1 << 60}


def pattern(nbytes: int, seed: int = 0) -> Bytes:
    """Bytes that do not repeat within what a wrong offset would reach."""
    return np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8)


def _read(subject: Subject, allocation: Allocation, nbytes: int, offset: int = 0) -> Bytes:
    found = np.full(nbytes, 0xEE, np.uint8)
    subject.allocator.copyout(found.data, allocation, offset)
    return found


@conformance("L0", "memory/round-trip", cases=product(nbytes=SIZES),
             suggests="bytes that were copied in do not come back")
def round_trip(subject: Subject, nbytes: int) -> None:
    data = pattern(nbytes)
    subject.expect(_read(subject, subject.upload(data), nbytes), data, "uint8", op="copyin, copyout")


@conformance("L0", "memory/offsets", cases=product(offset=(1, 8, 100, 4096), nbytes=(1, 17, 5000)),
             suggests="a copy ignores an offset")
def offsets(subject: Subject, offset: int, nbytes: int) -> None:
    whole, part = pattern(12000), pattern(nbytes + 7, 1)
    block = subject.upload(whole)
    subject.allocator.copyin(block, offset, part.data[7:])  # an offset in host memory as well
    want = whole.copy()
    want[offset:offset + nbytes] = part[7:]
    subject.expect(_read(subject, block, whole.nbytes), want, "uint8", op=f"copyin at {offset}",
                   suggests="copyin ignores an offset")
    subject.expect(_read(subject, block, nbytes, offset), part[7:], "uint8", op=f"copyout from {offset}",
                   suggests="copyout ignores an offset")
    found = np.zeros(nbytes + 9, np.uint8)
    subject.allocator.copyout(found.data[5:5 + nbytes], block, offset)
    subject.expect(found, np.concatenate([np.zeros(5), part[7:], np.zeros(4)]).astype(np.uint8), "uint8",
                   op="copyout into a part of host memory", suggests="copyout writes beside its target")


@conformance("L0", "memory/copy-command",
             cases=product(source=(0, 64, 320), target=(0, 128), nbytes=(1, 256, 5003)),
             suggests="a copy command ignores the offset of its source or its target")
def copy_command(subject: Subject, source: int, target: int, nbytes: int) -> None:
    old, new = pattern(8000), pattern(8000, 1)
    slots = [subject.upload(old), subject.upload(new)]
    command = CopyCommand(SlotRef(0, target), SlotRef(1, source), nbytes)
    subject.device.submit([command], slots, ()).wait()
    want = old.copy()
    want[target:target + nbytes] = new[source:source + nbytes]
    subject.expect(_read(subject, slots[0], old.nbytes), want, "uint8", op="copy command")
    subject.expect(_read(subject, slots[1], new.nbytes), new, "uint8", op="copy command: its source")


@conformance("L0", "memory/fill-command", cases=product(offset=(0, 64), nbytes=(1, 300, 5003)),
             suggests="a fill command ignores its offset or its size, or does not write zeros")
def fill_command(subject: Subject, offset: int, nbytes: int) -> None:
    want = pattern(8000) | 1
    slot = subject.upload(want)
    subject.device.submit([FillCommand(SlotRef(0, offset), nbytes)], [slot], ()).wait()
    want[offset:offset + nbytes] = 0
    subject.expect(_read(subject, slot, want.nbytes), want, "uint8", op="fill command")


@conformance("L0", "memory/nothing", suggests="memory of size 0 is not handled")
def nothing(subject: Subject) -> None:
    block, other = subject.alloc(0), subject.alloc(0)
    subject.allocator.copyin(block, 0, memoryview(b""))
    subject.allocator.copyout(memoryview(bytearray()), block, 0)
    commands = (CopyCommand(SlotRef(0), SlotRef(1), 0), FillCommand(SlotRef(0), 0))
    subject.device.submit(commands, [block, other], ()).wait()
    subject.device.submit((), [], ()).wait()
    full = subject.upload(pattern(100))
    subject.allocator.copyin(full, 50, memoryview(b""))
    subject.expect(_read(subject, full, 100), pattern(100), "uint8", op="copyin of nothing")


@conformance("L0", "memory/alignment", cases=product(nbytes=(0, 1, 100, 5000, 3 * MIB)),
             requires=requires(feature="zero_copy"), suggests="alloc() does not align as capabilities say")
def alignment(subject: Subject, nbytes: int) -> None:
    alignment = subject.capabilities.alignment
    for _ in range(5):
        view = subject.allocator.host_view(subject.alloc(max(nbytes, 1)))  # type: ignore[attr-defined]
        address = np.frombuffer(view, np.uint8).ctypes.data
        expect(address % alignment == 0, f"memory of {nbytes} bytes", expected=f"a multiple of {alignment}",
               got=f"address {address:#x}")


@conformance("L0", "memory/apart", suggests="two allocations share memory")
def apart(subject: Subject) -> None:
    sizes = [1, 64, 100, 5000, 1, 64, 100, 5000, 70000]
    blocks = [subject.upload(pattern(nbytes, seed)) for seed, nbytes in enumerate(sizes)]
    for seed in (1, 4, 7):  # blocks made anew between others
        subject.free(blocks[seed])
        blocks[seed] = subject.upload(pattern(sizes[seed], seed))
    for seed, (block, nbytes) in enumerate(zip(blocks, sizes, strict=True)):
        subject.expect(_read(subject, block, nbytes), pattern(nbytes, seed), "uint8", op=f"block {seed}")


@conformance("L0", "memory/view", cases=product(steps=(0, 1, 7)),
             suggests="a view is not the part of its allocation that it should be")
def view(subject: Subject, steps: int) -> None:
    offset = steps * subject.capabilities.alignment
    size = offset + 4000
    data = pattern(size)
    block, allocator = subject.upload(data), subject.allocator
    try:
        part, rest = allocator.view(block, offset, 300), allocator.view(block, offset, 0)
    except NotImplementedError:
        own = type(subject.device).submit is not Device.submit
        expect(own, "Allocator.view() is missing", expected="it, where Device.submit is the base class's",
               suggests="implement Allocator.view(), or submit() with offsets of its own")
        return
    subject.expect(_read(subject, part, 300), data[offset:offset + 300], "uint8", op="view")
    subject.expect(_read(subject, rest, size - offset), data[offset:], "uint8", op="view of the rest")
    allocator.copyin(part, 7, memoryview(b"\x55" * 9))
    data[offset + 7:offset + 16] = 0x55
    subject.expect(_read(subject, block, size), data, "uint8", op="write through a view")


@conformance("L0", "memory/host-bytes-are-free-after-copyin",
             suggests="copyin() returns before it has read the host's bytes: stage them")
def host_bytes_are_free(subject: Subject) -> None:
    want = pattern(MIB)
    data, block = want.copy(), subject.alloc(MIB)
    for _ in range(10):
        subject.allocator.copyin(block, 0, data.data)
        data[:] = 0
        subject.expect(_read(subject, block, MIB), want, "uint8", op="copyin")
        data[:] = want


# ---- giving back -------------------------------------------------------------------------------------------
def _peak_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


@conformance("L0", "memory/free-gives-back", cases=product(blocks=BLOCKS), isolated=True,
             suggests="free() leaks: memory that was freed does not come back")
def free_gives_back(subject: Subject, blocks: str) -> None:
    block, total = BLOCKS[blocks]
    rounds = total // block
    data = pattern(block)
    for _ in range(rounds):  # some drivers keep a dozen freed blocks
        subject.free(subject.upload(data))
    gc.collect()
    before = _peak_bytes()
    for _ in range(rounds):
        subject.free(subject.upload(data))
    grown = _peak_bytes() - before
    expect(grown < total // 4, f"{rounds} times {block:,} bytes, each freed before the next",
           expected=f"less than {total // 4 // MIB} MiB more", got=f"{grown // MIB} MiB more")


@conformance("L0", "memory/free-gives-back-device-memory", isolated=True,
             suggests="free() leaks: memory that was freed does not come back")
def free_gives_back_device_memory(subject: Subject) -> None:
    block = 1 << 30
    while block > MIB:  # half of what the device gives at once
        try:
            subject.free(subject.alloc(block))
            break
        except MemoryError:
            block //= 2
    block //= 2
    for number in range(400):
        try:
            subject.free(subject.alloc(block))
        except MemoryError as error:
            raise Mismatch(f"allocation {number} of {block:,} bytes, each freed before the next",
                           expected="memory", got=f"{type(error).__name__}: {error}") from error


@conformance("L0", "memory/exhausted", cases=product(size=TOO_MUCH), isolated=True,
             suggests="alloc() does not raise OutOfMemoryError, or the device is unusable after it")
def exhausted(subject: Subject, size: str) -> None:
    nbytes = TOO_MUCH[size]
    for _ in range(3):
        try:
            subject.alloc(nbytes)
        except MemoryError:
            continue
        except Exception as error:
            raise Mismatch(f"alloc of {nbytes:,} bytes", expected="OutOfMemoryError",
                           got=f"{type(error).__name__}: {error}") from error
        raise Mismatch(f"alloc of {nbytes:,} bytes", expected="OutOfMemoryError", got="memory")
    data = pattern(5000)
    subject.expect(_read(subject, subject.upload(data), 5000), data, "uint8",
                   op="alloc after one that was refused")

"""Launching: a kernel gets its buffers, at their offsets, its run-time values and all of its tasks."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from pluggrad import dtypes
from pluggrad.device.contract import Command, CopyCommand, FillCommand, SlotRef
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject, decoded, stored

NEEDS = requires(dtype="int32")


@conformance("L0", "launch/size", cases=product(size=(1, 7, 64, 1025)), requires=NEEDS,
             suggests="a compiled kernel does not run as launched: buffers, run-time values, or tasks")
def launch(subject: Subject, size: int) -> None:
    data = np.arange(size, dtype=np.int32)
    out, source = subject.run(affine(size), [np.zeros_like(data), data], (3, -5))
    subject.expect(out, data * 3 - 5, "int32", op="launch")
    subject.expect(source, data, "int32", op="launch: its source")


@conformance("L0", "launch/values", requires=NEEDS,
             suggests="a launch ignores a value, or the positions of its values in the list's")
def values(subject: Subject) -> None:
    data, kernel = np.arange(33, dtype=np.int32), subject.load(affine(33))
    slots = [subject.upload(np.zeros_like(data)), subject.upload(data)]
    for given, positions in (((2, 5), (0, 1)), ((5, 2), (0, 1)), ((5, 2), (1, 0)), ((0, 9, 4, 7), (3, 1)),
                             ((6,), (0, 0)), ((2, 2**31 - 1), (0, 1)), ((-3, -(2**31)), (0, 1))):
        subject.device.submit(kernel.commands((0, 1), positions), slots, given).wait()
        scale, shift = (given[position] for position in positions)
        want = (data.astype(np.int64) * scale + shift).astype(np.int32)
        subject.expect(subject.download(slots[0], dtypes.int32, 33), want, "int32",
                       op=f"launch with values {given} at {positions}")


@conformance("L0", "launch/value-types", cases=product(dtype=[dtype.name for dtype in dtypes.ALL]),
             requires=lambda dtype: requires(dtype=dtype),
             suggests="a run-time value of {dtype} does not reach the kernel")
def value_types(subject: Subject, dtype: str) -> None:
    of = dtypes.by_name(dtype)
    scale, shift = (True, True) if of.kind == "b" else (1.5, -0.25) if of.is_float else (3, 7)
    data = np.arange(20) % 2 if of.kind == "b" else np.arange(20)
    source = stored(data, of)
    out, _ = subject.run(affine(20, of), [np.zeros_like(source), source], (scale, shift))
    want = data.astype(bool) | True if of.kind == "b" else data * scale + shift
    subject.expect(decoded(out, of), decoded(stored(want, of), of), of, "rounded",
                   op="launch")


@conformance("L0", "launch/offsets", cases=product(steps=(0, 1, 5)), requires=NEEDS,
             suggests="a launch ignores the offset of a slot, a multiple of capabilities.alignment")
def slot_offsets(subject: Subject, steps: int) -> None:
    offset = steps * max(subject.capabilities.alignment, 4)
    skipped = offset // 4
    size = skipped + 200
    untouched, data = np.full(size, -1, np.int32), np.arange(size, dtype=np.int32)
    slots = [subject.upload(untouched), subject.upload(data)]
    (command,) = subject.load(affine(100)).commands((0, 1))
    for target, source in ((offset, 0), (0, offset), (offset, offset)):
        moved = replace(command, args=(SlotRef(0, target), SlotRef(1, source)))
        subject.allocator.copyin(slots[0], 0, untouched.view(np.uint8).data)
        subject.device.submit([moved], slots, (2, 1)).wait()
        want = untouched.copy()
        first = skipped if target else 0
        want[first:first + 100] = data[skipped if source else 0:][:100] * 2 + 1
        subject.expect(subject.download(slots[0], dtypes.int32, size), want, "int32",
                       op=f"launch from offset {source} to {target}")


@conformance("L0", "launch/in-order", requires=NEEDS,
             suggests="the commands of a list do not run in order, or not all of them run")
def in_order(subject: Subject) -> None:
    data, kernel = np.arange(257, dtype=np.int32), subject.load(affine(257))
    slots = [subject.upload(data), subject.upload(data), subject.upload(data)]
    there, back = kernel.commands((1, 0)), kernel.commands((0, 1), (1, 0))
    commands: list[Command] = [*there, *back, CopyCommand(SlotRef(2), SlotRef(0), 100), *there,
                               FillCommand(SlotRef(0, 512), 8)]
    subject.device.submit(commands, slots, (3, 2)).wait()
    first = (data * 3 + 2) * 2 + 3
    last, third = first.copy(), data.copy()
    last[128:130], third[:25] = 0, first[:25]
    for slot, want in zip(slots, (last, first * 3 + 2, third), strict=True):
        subject.expect(subject.download(slot, dtypes.int32, 257), want, "int32", op="a list of six commands")

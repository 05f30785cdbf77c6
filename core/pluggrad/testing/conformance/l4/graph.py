"""Feature `graph`: a prepared list does what submitting does, and is bound anew at each call."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pluggrad import dtypes
from pluggrad.device.contract import Command, CopyCommand, FillCommand, Prepared, SlotRef
from pluggrad.dtypes import DType
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Array, Subject

NEEDS = requires(dtype="int32", feature="graph")
INTS = (dtypes.int32, dtypes.int32)
SIZE = 333


def _prepare(subject: Subject, commands: Sequence[Command], values: Sequence[DType] = INTS) -> Prepared:
    prepared: Prepared = subject.device.prepare(commands, values)  # type: ignore[attr-defined]
    return prepared


def _numbers(seed: int) -> Array:
    return np.random.default_rng(seed).integers(-1000, 1000, SIZE).astype(np.int32)


def _read(subject: Subject, slot: object) -> Array:
    return subject.download(slot, dtypes.int32, SIZE)


@conformance("L4", "graph/equals-one-by-one", requires=NEEDS,
             suggests="a prepared list leaves a command out, or runs them in another order")
def equals_one_by_one(subject: Subject) -> None:
    kernel = subject.load(affine(SIZE))
    commands: list[Command] = [
        *kernel.commands((1, 0)), CopyCommand(SlotRef(2, 64), SlotRef(1, 128), 400),
        *kernel.commands((3, 2), (1, 0)), FillCommand(SlotRef(2), 60), *kernel.commands((0, 3)),
        CopyCommand(SlotRef(1), SlotRef(0), 4 * SIZE)]
    alone, together = ([subject.upload(_numbers(seed)) for seed in range(4)] for _ in range(2))
    for command in commands:
        subject.device.submit([command], alone, (3, -7)).wait()
    _prepare(subject, commands)(together, (3, -7)).wait()
    for number, (want, have) in enumerate(zip(alone, together, strict=True)):
        subject.expect(_read(subject, have), _read(subject, want), "int32", op=f"slot {number} of a list")


@conformance("L4", "graph/rebinds-slots", requires=NEEDS,
             suggests="a prepared list keeps the slots of an earlier call")
def rebinds_slots(subject: Subject) -> None:
    prepared = _prepare(subject, subject.load(affine(SIZE)).commands((0, 1)))
    sources = [subject.upload(_numbers(seed)) for seed in range(3)]
    targets = [subject.upload(np.zeros(SIZE, np.int32)) for _ in range(3)]
    for seed in (0, 1, 2, 1):
        prepared([targets[seed], sources[seed]], (2, seed)).wait()
    for seed, target in enumerate(targets):
        subject.expect(_read(subject, target), _numbers(seed) * 2 + seed, "int32", op=f"call {seed}")


@conformance("L4", "graph/rebinds-values", requires=NEEDS,
             suggests="a prepared list ignores a value of a later call")
def rebinds_values(subject: Subject) -> None:
    kernel = subject.load(affine(SIZE))
    prepared = _prepare(subject, (*kernel.commands((0, 1)), *kernel.commands((2, 1), (2, 3))), INTS * 2)
    slots = [subject.upload(_numbers(seed)) for seed in range(3)]
    for values in ((1, 0, 5, 6), (1, 9, 5, 6), (4, 9, 5, 6), (4, 9, -5, 6), (4, 9, -5, 2**31 - 1)):
        prepared(slots, values).wait()
        for slot, scale, shift in ((0, *values[:2]), (2, *values[2:])):
            want = (_numbers(1).astype(np.int64) * scale + shift).astype(np.int32)
            subject.expect(_read(subject, slots[slot]), want, "int32", op=f"a list called with {values}")


@conformance("L4", "graph/values-of-several-types", requires=NEEDS,
             suggests="the values of a prepared list are packed wrongly where their dtypes differ")
def values_of_several_types(subject: Subject) -> None:
    chosen = [dtype for dtype in dtypes.ALL if dtype.name in subject.capabilities.dtypes and dtype.kind != "b"
              and dtype is not dtypes.bfloat16]
    commands: list[Command] = []
    for number, dtype in enumerate(chosen):
        commands += subject.load(affine(20, dtype)).commands((number + 1, 0), (2 * number + 1, 2 * number))
    prepared = _prepare(subject, commands, [dtype for dtype in chosen for _ in range(2)])
    slots = [subject.upload(np.zeros(200, np.uint8)) for _ in range(len(chosen) + 1)]
    prepared(slots, [value for number in range(len(chosen)) for value in (number + 1, 1)]).wait()
    for number, dtype in enumerate(chosen):
        want = np.full(20, number + 1, dtype.numpy)
        subject.expect(subject.download(slots[number + 1], dtype, 20), want, dtype, op="a list's values")


@conformance("L4", "graph/never-overlaps-itself", requires=NEEDS,
             suggests="calls of one prepared list overlap, or a later call's values reach an earlier one")
def never_overlaps_itself(subject: Subject) -> None:
    kernel = subject.load(affine(SIZE))
    commands: list[Command] = [*kernel.commands((1, 0)), *kernel.commands((2, 1), (1, 0)),
                               CopyCommand(SlotRef(0), SlotRef(2), 4 * SIZE)]
    prepared = _prepare(subject, commands)
    slots = [subject.upload(_numbers(seed)) for seed in range(3)]
    want, events = _numbers(0).astype(np.int64), []
    limit = subject.max_in_flight
    for step in range(60):
        scale, shift = 3 + step % 4, step
        events.append(prepared(slots, (scale, shift)))
        if len(events) == limit:
            events.pop(0).wait()
        want = ((want * scale + shift) * shift + scale).astype(np.int32).astype(np.int64)
    subject.expect(_read(subject, slots[0]), want.astype(np.int32), "int32", op="60 calls in a row")
    for event in events:
        event.wait()


@conformance("L4", "graph/several-lists", requires=NEEDS,
             suggests="prepared lists share what is bound to them")
def several_lists(subject: Subject) -> None:
    kernel = subject.load(affine(SIZE))
    slots = [subject.upload(_numbers(seed)) for seed in range(3)]
    lists = [_prepare(subject, kernel.commands(pair)) for pair in ((1, 0), (2, 1), (0, 2))]
    want = [_numbers(seed) for seed in range(3)]
    for step in range(9):
        lists[step % 3](slots, (step + 1, step)).wait()
        target, source = ((1, 0), (2, 1), (0, 2))[step % 3]
        want[target] = want[source] * np.int32(step + 1) + np.int32(step)
    for number, slot in enumerate(slots):
        subject.expect(_read(subject, slot), want[number], "int32", op=f"slot {number}")

"""Plan -> loaded plan: binaries from memory, from disk or from the toolchain, and a list of commands to run.

A plan is stored as JSON without its kernels' bodies: a process that finds it schedules, lowers and compiles
nothing.
"""
from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pluggrad import dtypes
from pluggrad.config import DEBUG, SYNC, VALIDATE
from pluggrad.device.contract import (
    Command,
    CopyCommand,
    Device,
    Executable,
    Launch,
    Signature,
    SlotRef,
    Toolchain,
)
from pluggrad.dtypes import DType
from pluggrad.errors import DeviceError
from pluggrad.kernel.kernel import BufferParam, IndexCheck, Kernel
from pluggrad.kernel.offer import Extern
from pluggrad.lower import lower, program_name
from pluggrad.plan import BufferRef, Plan, PlannedCommand, PlannedCopy, PlannedLaunch, PlannedOutput
from pluggrad.runtime import cache
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.status import StatusWords
from pluggrad.runtime.stepwise import report_sources, run_stepwise
from pluggrad.target import Target
from pluggrad.version import __version__


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """A plan whose kernels are signatures with binaries."""

    signatures: tuple[Signature, ...]
    binaries: tuple[bytes, ...]
    commands: tuple[PlannedCommand, ...]
    outputs: tuple[PlannedOutput, ...]
    roots: tuple[BufferRef, ...]
    arena_bytes: int
    checks: tuple[IndexCheck, ...] = ()


def context_key(target: Target, toolchain: Toolchain) -> str:
    """Everything beside the graph that a plan or a binary depends on."""
    return repr((__version__, target.key(), toolchain.cache_key))


def compile_plan(plan: Plan, target: Target, toolchain: Toolchain, context: str) -> CompiledPlan:
    """Binaries for every kernel of a plan, kept under `context`; those not kept yet are compiled together."""
    signatures = tuple([signature_of(kernel, target, plan.externs.get(i))
                        for i, kernel in enumerate(plan.kernels)])
    keys = [_digest(context, s.name, s.extern) for s in signatures]
    blobs: dict[str, bytes | None] = {}
    found = {key: _load_binary(key, blobs) if toolchain.cache_key else None for key in keys}
    found |= {keys[i]: extern.payload for i, extern in plan.externs.items()}
    missing = [i for i, key in enumerate(keys) if found[key] is None]
    if missing:
        sources = [toolchain.render(lower(plan.kernels[i], target)) for i in missing]
        report_sources([signatures[i].name for i in missing], sources)
        compiled = dict(zip([keys[i] for i in missing], toolchain.compile_many(sources), strict=True))
        found |= compiled
        if toolchain.cache_key:
            _store_binaries(compiled, blobs)
        GlobalCounters.compiled += len(missing)
    GlobalCounters.kernel_disk_hits += len(keys) - len(missing) - len(plan.externs)
    binaries = tuple([b for b in (found[key] for key in keys) if b is not None])
    return CompiledPlan(signatures, binaries, plan.commands, plan.outputs, plan.roots, plan.arena_bytes,
                        plan.checks)


def signature_of(kernel: Kernel, target: Target, extern: Extern | None = None) -> Signature:
    """How the kernel, or what stands for it, will be called: known before it is lowered."""
    tasks = 1
    if extern is None and not target.capabilities.interprets_kernels:
        for axis in kernel.axes:
            tasks *= axis.extent if axis.kind == "PARALLEL" else 1
    name = "" if extern is None else extern.name
    return Signature(program_name(kernel), kernel.buffers, kernel.values, tasks, extern=name)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _load_binary(key: str, blobs: dict[str, bytes | None]) -> bytes | None:
    """A kernel's entry names the blob that holds it: kernels compiled together share one, read once."""
    entry = cache.load("kernel", key)
    if entry is None:
        return None
    name = entry.decode()
    if name not in blobs:
        blobs[name] = cache.load("blob", name)
    return blobs[name]


def _store_binaries(binaries: dict[str, bytes], blobs: dict[str, bytes | None]) -> None:
    """Keep each distinct binary once, and its name under each key. `blobs` are known to be kept."""
    names = _blob_names(binaries.values())
    for binary, name in names.items():
        if blobs.get(name) is None:
            cache.store("blob", name, binary)
    for key, binary in binaries.items():
        cache.store("kernel", key, names[binary].encode())


def _blob_names(binaries: Iterable[bytes]) -> dict[bytes, str]:
    """The digest of each distinct binary: kernels compiled together share one."""
    return {binary: hashlib.sha256(binary).hexdigest() for binary in set(binaries)}


# ---- plans on disk -----------------------------------------------------------------------------------------
def store_plan(key: str, plan: CompiledPlan) -> None:
    """Write a plan's JSON, and the payloads of what its backend brings; binaries are stored already."""
    names = _blob_names(plan.binaries)
    for signature, binary in zip(plan.signatures, plan.binaries, strict=True):
        if signature.extern:
            cache.store("blob", names[binary], binary)
    data = {
        "signatures": [_signature_data(s) for s in plan.signatures],
        "binaries": [names[binary] for binary in plan.binaries],
        "commands": [_command_data(c) for c in plan.commands],
        "outputs": [[o.nbytes, o.reuses] for o in plan.outputs],
        "roots": plan.roots, "arena": plan.arena_bytes, "checks": plan.checks}
    cache.store("plan", key, json.dumps(data).encode())


def _signature_data(signature: Signature) -> list[Any]:
    buffers = [[b.dtype.name, b.size, b.role] for b in signature.buffers]
    values = [d.name for d in signature.values]
    return [signature.name, buffers, values, signature.tasks, signature.extern]


def _command_data(command: PlannedCommand) -> list[Any]:
    if isinstance(command, PlannedCopy):
        return ["copy", command.target, command.source, command.nbytes]
    return ["launch", command.kernel, command.args, command.values, command.work_us, command.barrier]


def load_plan(key: str) -> CompiledPlan | None:
    """A stored plan with all its binaries, or None."""
    content = cache.load("plan", key)
    if content is None:
        return None
    data = json.loads(content)
    blobs = {name: cache.load("blob", name) for name in set(data["binaries"])}
    if any(blob is None for blob in blobs.values()):
        return None
    return CompiledPlan(tuple([_stored_signature(s) for s in data["signatures"]]),
                        tuple([blobs[name] or b"" for name in data["binaries"]]),
                        tuple([_stored_command(c) for c in data["commands"]]),
                        tuple([PlannedOutput(*o) for o in data["outputs"]]),
                        tuple([BufferRef(*r) for r in data["roots"]]), data["arena"],
                        tuple([IndexCheck(*check) for check in data["checks"]]))


def _stored_signature(data: list[Any]) -> Signature:
    name, buffers, values, tasks, extern = data
    params = tuple([BufferParam(dtypes.by_name(dtype), size, role) for dtype, size, role in buffers])
    return Signature(name, params, tuple([dtypes.by_name(v) for v in values]), tasks, extern=extern)


def _stored_command(data: list[Any]) -> PlannedCommand:
    if data[0] == "copy":
        return PlannedCopy(BufferRef(*data[1]), BufferRef(*data[2]), data[3])
    _, kernel, args, values, work, barrier = data
    return PlannedLaunch(kernel, tuple([BufferRef(*a) for a in args]), tuple(values), work, barrier)


# ---- loading -----------------------------------------------------------------------------------------------
class LoadedPlan:
    """A plan on an open device. Slots are inputs, outputs, then status words and the arena, if any."""

    __slots__ = ("plan", "launches", "shared", "status", "_device", "_commands", "_prepared", "_kernels")

    def __init__(self, plan: CompiledPlan, device: Device, inputs: int, value_dtypes: Sequence[DType],
                 kernels: tuple[Kernel, ...]) -> None:
        self.plan, self._device, self._kernels = plan, device, kernels
        outputs = [root.number for root in plan.roots if root.place == "output"]
        # outputs that several roots share
        self.shared = tuple([number for number, count in Counter(outputs).items() if count > 1])
        executables = [device.load(b, s) for b, s in zip(plan.binaries, plan.signatures, strict=True)]
        self.status = StatusWords(device, plan.checks) if plan.checks else None
        after = inputs + len(plan.outputs)
        first = {"input": 0, "output": inputs, "status": after, "arena": after + bool(plan.checks)}
        self._commands = [_bound(c, first, executables, plan.signatures) for c in plan.commands]
        self.launches = sum(isinstance(c, PlannedLaunch) for c in plan.commands)
        self._prepared = None
        replayable = bool(self._commands) and all(executable.replayable for executable in executables)
        if "graph" in device.target.capabilities.features and replayable:
            self._prepared = device.prepare(self._commands, tuple(value_dtypes))  # type: ignore[attr-defined]

    def run(self, slots: Sequence[Any], values: Sequence[Any]) -> None:
        """Run to completion; raises what the device reports."""
        if not self._commands:
            return
        GlobalCounters.kernels += self.launches
        if SYNC.value or VALIDATE.value or DEBUG.value > 1:
            numbers = [c.kernel if isinstance(c, PlannedLaunch) else None for c in self.plan.commands]
            signatures = [None if number is None else self.plan.signatures[number] for number in numbers]
            kernels = [None if number is None or not self._kernels else self._kernels[number]
                       for number in numbers]
            run_stepwise(self._device, self._commands, signatures, kernels, slots, values)
            return
        if self._prepared is not None:
            self._prepared(slots, values).wait()
        else:
            self._device.submit(self._commands, slots, values).wait()


def _bound(command: PlannedCommand, first: dict[str, int], executables: list[Executable],
           signatures: Sequence[Signature]) -> Command:
    def slot(ref: BufferRef) -> SlotRef:
        return SlotRef(first[ref.place] + ref.number, ref.offset)
    if isinstance(command, PlannedCopy):
        return CopyCommand(slot(command.target), slot(command.source), command.nbytes)
    if not isinstance(command, PlannedLaunch):
        raise DeviceError(f"unknown command {command!r}")
    return Launch(executables[command.kernel], tuple([slot(a) for a in command.args]), command.values,
                  signatures[command.kernel].tasks, command.work_us, command.barrier)

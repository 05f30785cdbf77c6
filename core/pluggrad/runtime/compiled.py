"""Compiled plans and binaries on disk.

A plan is stored as JSON without its kernels' bodies: a process that finds it schedules, lowers and compiles
nothing, and does not even load the modules that do (`runtime/compilation.py`).
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

from pluggrad import dtypes
from pluggrad.device.contract import Signature, Toolchain
from pluggrad.device.hookspecs import KernelInfo
from pluggrad.kernel.kernel import Box, BufferParam, Dim, IndexCheck
from pluggrad.plan import BufferRef, PlannedCommand, PlannedCopy, PlannedLaunch, PlannedOutput
from pluggrad.runtime import cache
from pluggrad.target import Target
from pluggrad.version import __version__

Donated = tuple[int | None, ...]  # for each root, the input whose memory it may take over


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """A plan whose kernels are signatures with binaries, and with what observers are told of them."""

    signatures: tuple[Signature, ...]
    infos: tuple[KernelInfo, ...]
    binaries: tuple[bytes, ...]
    commands: tuple[PlannedCommand, ...]
    outputs: tuple[PlannedOutput, ...]
    roots: tuple[BufferRef, ...]
    arena_bytes: int
    checks: tuple[IndexCheck, ...] = ()


def context_key(target: Target, toolchain: Toolchain) -> str:
    """Everything beside the graph that a plan or a binary depends on."""
    maker = type(toolchain)
    return repr((__version__, target.key(), maker.__module__, maker.__qualname__, toolchain.cache_key))


# ---- binaries on disk --------------------------------------------------------------------------------------
def load_binary(key: str, blobs: dict[str, bytes | None]) -> bytes | None:
    """A kernel's entry names the blob that holds it: kernels compiled together share one, read once."""
    entry = cache.load("kernel", key)
    if entry is None:
        return None
    name = entry.decode()
    if name not in blobs:
        blobs[name] = cache.load("blob", name)
    return blobs[name]


def store_binaries(binaries: dict[str, bytes], blobs: dict[str, bytes | None]) -> None:
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
        "infos": [astuple(info) for info in plan.infos],
        "binaries": [names[binary] for binary in plan.binaries],
        "commands": [_command_data(c) for c in plan.commands],
        "outputs": [[o.nbytes, o.reuses] for o in plan.outputs],
        "roots": plan.roots, "arena": plan.arena_bytes, "checks": plan.checks}
    cache.store("plan", key, json.dumps(data).encode())


def _signature_data(signature: Signature) -> list[Any]:
    buffers = [[b.dtype.name, b.size, b.role] for b in signature.buffers]
    values = [d.name for d in signature.values]
    return [signature.name, buffers, values, signature.tasks, signature.scratch, signature.extern,
            signature.group, signature.boxes]


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
                        tuple([KernelInfo(*info) for info in data["infos"]]),
                        tuple([blobs[name] or b"" for name in data["binaries"]]),
                        tuple([_stored_command(c) for c in data["commands"]]),
                        tuple([PlannedOutput(*o) for o in data["outputs"]]),
                        tuple([BufferRef(*r) for r in data["roots"]]), data["arena"],
                        tuple([IndexCheck(*check) for check in data["checks"]]))


def _stored_signature(data: list[Any]) -> Signature:
    name, buffers, values, tasks, scratch, extern, group, boxes = data
    params = tuple([BufferParam(dtypes.by_name(dtype), size, role) for dtype, size, role in buffers])
    return Signature(name, params, tuple([dtypes.by_name(v) for v in values]), tasks, scratch, extern,
                     group, tuple([_stored_box(*box) for box in boxes]))


def _stored_box(source: int, offset: int, dims: list[list[int]], span: int) -> Box:
    return Box(source, offset, tuple([Dim(*dim) for dim in dims]), span)


def _stored_command(data: list[Any]) -> PlannedCommand:
    if data[0] == "copy":
        return PlannedCopy(BufferRef(*data[1]), BufferRef(*data[2]), data[3])
    _, kernel, args, values, work, barrier = data
    return PlannedLaunch(kernel, tuple([BufferRef(*a) for a in args]), tuple(values), work, barrier)

"""Plan -> compiled plan: binaries from disk or from the toolchain.

A plan is stored as JSON without its kernels' bodies: a process that finds it schedules, lowers and compiles
nothing.
"""
from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pluggrad import dtypes
from pluggrad.device.contract import Signature, Toolchain
from pluggrad.device.hookspecs import KernelCompiled, KernelInfo, PhaseTime
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import CompileError
from pluggrad.kernel.cost import Cost
from pluggrad.kernel.kernel import BufferParam, IndexCheck, Kernel
from pluggrad.kernel.offer import Extern
from pluggrad.kernel.text import axes_text, buffers_text
from pluggrad.lower import lower, program_name
from pluggrad.plan import BufferRef, Plan, PlannedCommand, PlannedCopy, PlannedLaunch, PlannedOutput
from pluggrad.runtime import cache
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.stepwise import report_sources
from pluggrad.target import DeviceId, Target
from pluggrad.version import __version__

T = TypeVar("T")


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


def compile_plan(plan: Plan, device: DeviceId, target: Target, toolchain: Toolchain,
                 context: str) -> CompiledPlan:
    """Binaries for every kernel of a plan, kept under `context`; those not kept yet are compiled together."""
    signatures = signatures_of(plan, target)
    infos = infos_of(plan, signatures)
    keys = [_digest(context, s.name, s.extern) for s in signatures]
    blobs: dict[str, bytes | None] = {}
    found = {key: _load_binary(key, blobs) if toolchain.cache_key else None for key in keys}
    found |= {keys[i]: extern.payload for i, extern in plan.externs.items()}
    missing = [i for i, key in enumerate(keys) if found[key] is None]
    if missing:
        made = _compile([plan.kernels[i] for i in missing], [infos[i] for i in missing], device, target,
                        toolchain)
        compiled = dict(zip([keys[i] for i in missing], made, strict=True))
        found |= compiled
        if toolchain.cache_key:
            _store_binaries(compiled, blobs)
        GlobalCounters.compiled += len(missing)
    GlobalCounters.kernel_disk_hits += len(keys) - len(missing) - len(plan.externs)
    binaries = tuple([b for b in (found[key] for key in keys) if b is not None])
    return CompiledPlan(signatures, infos, binaries, plan.commands, plan.outputs, plan.roots,
                        plan.arena_bytes, plan.checks)


def _compile(kernels: Sequence[Kernel], infos: Sequence[KernelInfo], device: DeviceId, target: Target,
             toolchain: Toolchain) -> list[bytes]:
    """Lower, render and compile, and tell those who listen."""
    sources: list[str] = []
    phases: list[tuple[PhaseTime, PhaseTime]] = []
    for kernel in kernels:
        program, lowered = _timed("lower", lower, kernel, target)
        source, rendered = _timed("render", toolchain.render, program)
        sources.append(source)
        phases.append((lowered, rendered))
    report_sources([info.name for info in infos], sources)
    try:
        binaries, together = _timed("compile", toolchain.compile_many, sources)
    except CompileError as error:
        raise _saved(error) from error
    if REGISTRY.hooks("pluggrad_kernel_compiled") is not None:
        share = together.seconds / len(sources)
        for i, (info, source) in enumerate(zip(infos, sources, strict=True)):
            compiled = PhaseTime("compile", together.start + i * share, share)
            REGISTRY.tell("pluggrad_kernel_compiled",
                          event=KernelCompiled(device, info, source, (*phases[i], compiled)))
    return binaries


def _saved(error: CompileError) -> CompileError:
    """The same error, with its source and log in files that stay."""
    folder = Path(tempfile.mkdtemp(prefix="pluggrad-refused-"))
    (folder / "kernel.txt").write_text(error.source, encoding="utf-8")
    (folder / "log.txt").write_text(error.log, encoding="utf-8")
    return CompileError(str(error), source=error.source, log=error.log, folder=str(folder))


def _timed(phase: str, work: Callable[..., T], *args: Any) -> tuple[T, PhaseTime]:
    start = time.perf_counter()
    made = work(*args)
    return made, PhaseTime(phase, start, time.perf_counter() - start)


def infos_of(plan: Plan, signatures: Sequence[Signature]) -> tuple[KernelInfo, ...]:
    """What observers are told of each kernel of a plan."""
    return tuple([_info(kernel, signature, work)
                  for kernel, signature, work in zip(plan.kernels, signatures, plan.costs, strict=True)])


def _info(kernel: Kernel, signature: Signature, work: Cost) -> KernelInfo:
    title = f"{kernel.name} by {signature.extern}" if signature.extern else kernel.name
    return KernelInfo(signature.name, title, buffers_text(kernel), axes_text(kernel), work.operations,
                      work.bytes)


def signatures_of(plan: Plan, target: Target) -> tuple[Signature, ...]:
    """How each kernel of a plan will be called."""
    return tuple([signature_of(kernel, target, plan.externs.get(i)) for i, kernel in enumerate(plan.kernels)])


def signature_of(kernel: Kernel, target: Target, extern: Extern | None = None) -> Signature:
    """How the kernel, or what stands for it, will be called: known before it is lowered."""
    whole = extern is not None or target.capabilities.interprets_kernels
    name = "" if extern is None else extern.name
    return Signature(program_name(kernel), kernel.arguments, kernel.values, 1 if whole else kernel.tasks,
                     extern=name, group=1 if whole else kernel.group)


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
        "infos": [astuple(info) for info in plan.infos],
        "binaries": [names[binary] for binary in plan.binaries],
        "commands": [_command_data(c) for c in plan.commands],
        "outputs": [[o.nbytes, o.reuses] for o in plan.outputs],
        "roots": plan.roots, "arena": plan.arena_bytes, "checks": plan.checks}
    cache.store("plan", key, json.dumps(data).encode())


def _signature_data(signature: Signature) -> list[Any]:
    buffers = [[b.dtype.name, b.size, b.role] for b in signature.buffers]
    values = [d.name for d in signature.values]
    return [signature.name, buffers, values, signature.tasks, signature.extern, signature.group]


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
    name, buffers, values, tasks, extern, group = data
    params = tuple([BufferParam(dtypes.by_name(dtype), size, role) for dtype, size, role in buffers])
    return Signature(name, params, tuple([dtypes.by_name(v) for v in values]), tasks, extern=extern,
                     group=group)


def _stored_command(data: list[Any]) -> PlannedCommand:
    if data[0] == "copy":
        return PlannedCopy(BufferRef(*data[1]), BufferRef(*data[2]), data[3])
    _, kernel, args, values, work, barrier = data
    return PlannedLaunch(kernel, tuple([BufferRef(*a) for a in args]), tuple(values), work, barrier)

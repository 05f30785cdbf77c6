"""Normalized graph -> compiled plan, through every stage; binaries from disk or from the toolchain.

Importing this loads the compiler, which a process that finds its plans on disk never needs: `Session` imports
it with the first plan that is not there.
"""
from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pluggrad.config import VERIFY
from pluggrad.device.contract import Signature, Toolchain
from pluggrad.device.hookspecs import KernelCompiled, KernelInfo, PhaseTime
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import CompileError
from pluggrad.graph.grammar import GRAMMAR
from pluggrad.ir.verify import verify
from pluggrad.kernel.boxes import boxes_of
from pluggrad.kernel.cost import Cost
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.offer import Claim, Extern
from pluggrad.kernel.text import axes_text, buffers_text
from pluggrad.lower import lower, program_name
from pluggrad.plan import Plan
from pluggrad.plan.build import Tune, build_plan
from pluggrad.runtime.compiled import CompiledPlan, Donated, load_binary, store_binaries
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.normalize import Normalized, rebuild
from pluggrad.runtime.stepwise import report_sources
from pluggrad.target import DeviceId, Target

T = TypeVar("T")


def make_plan(normalized: Normalized, donated: Donated, device: DeviceId, target: Target,
              toolchain: Toolchain, claim: Claim | None, tuned: Tune,
              context: str) -> tuple[CompiledPlan, tuple[Kernel, ...]]:
    """The compiled plan of a graph, and its kernels; new binaries are kept under `context`."""
    GlobalCounters.scheduled += 1
    roots = rebuild(normalized)
    if VERIFY.value:
        verify(roots, GRAMMAR, "normalize")
    plan = build_plan(roots, donated, target.capabilities, claim, tuned)
    return compile_plan(plan, device, target, toolchain, context), plan.kernels


def compile_plan(plan: Plan, device: DeviceId, target: Target, toolchain: Toolchain,
                 context: str) -> CompiledPlan:
    """Binaries for every kernel of a plan, kept under `context`; those not kept yet are compiled together."""
    signatures = signatures_of(plan, target)
    infos = infos_of(plan, signatures)
    keys = [_digest(context, s.name, s.extern) for s in signatures]
    blobs: dict[str, bytes | None] = {}
    found = {key: load_binary(key, blobs) if toolchain.cache_key else None for key in keys}
    found |= {keys[i]: extern.payload for i, extern in plan.externs.items()}
    missing = [i for i, key in enumerate(keys) if found[key] is None]
    if missing:
        made = _compile([plan.kernels[i] for i in missing], [infos[i] for i in missing], device, target,
                        toolchain)
        compiled = dict(zip([keys[i] for i in missing], made, strict=True))
        found |= compiled
        if toolchain.cache_key:
            store_binaries(compiled, blobs)
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
    if whole:
        return Signature(program_name(kernel), kernel.arguments, kernel.values, 1, extern=name)
    return Signature(program_name(kernel), kernel.arguments, kernel.values, kernel.tasks,
                     kernel.local_bytes if kernel.group > 1 else 0, group=kernel.group,
                     boxes=tuple([copy.box for copy in boxes_of(kernel).values()]))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()

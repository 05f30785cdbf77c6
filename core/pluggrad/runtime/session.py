"""What the runtime keeps for each device in use: the open device, its memory, its plans."""
from __future__ import annotations

import atexit
import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from pluggrad import config
from pluggrad.device.registry import REGISTRY
from pluggrad.dtypes import DType
from pluggrad.graph.grammar import GRAMMAR
from pluggrad.ir.verify import verify
from pluggrad.kernel.kernel import Kernel
from pluggrad.plan import build_plan
from pluggrad.profiling import follow_setting
from pluggrad.runtime.compiled import (
    CompiledPlan,
    compile_plan,
    context_key,
    load_plan,
    store_plan,
)
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.interrupts import at_once
from pluggrad.runtime.loaded import LoadedPlan
from pluggrad.runtime.memory import MemoryReport, MemoryStats, Pool
from pluggrad.runtime.normalize import Normalized, rebuild, stable_text
from pluggrad.runtime.queue import drain, queue_of
from pluggrad.runtime.supported import require_dtype
from pluggrad.target import DeviceId

Donated = tuple[int | None, ...]
_MOST_PLANS = 4096  # in memory, for each device


class Session:
    """One device's runtime state."""

    def __init__(self, device: DeviceId) -> None:
        self.id = device
        self.target = REGISTRY.target(device)
        self.toolchain = REGISTRY.toolchain(device)
        self.device = REGISTRY.open_device(device)
        self.queue = queue_of(self.device, device)
        self.pool = Pool(self.device.allocator, str(device), self.queue)
        REGISTRY.load_extensions()
        follow_setting()
        backend, self.claim = REGISTRY.backend(device.type), REGISTRY.claim(device)
        claims = [] if self.claim is None else [backend]
        self._cached = bool(self.toolchain.cache_key) and all(claimer.claim_key for claimer in claims)
        self.context = "\0".join([context_key(self.target, self.toolchain), repr(config.key()),
                                  _sources(self.toolchain, *claims), *[c.claim_key for c in claims]])
        self._plans: dict[tuple[Any, ...], LoadedPlan] = {}

    def require(self, dtype: DType) -> None:
        """UnsupportedDType unless the device declares `dtype`."""
        require_dtype(self.id, dtype, self.target)

    def plan(self, normalized: Normalized, donated: Donated) -> LoadedPlan:
        """The loaded plan of a graph: from memory, from disk, or made now."""
        key = (normalized.key(), donated)
        found = self._plans.get(key)
        if found is not None:
            GlobalCounters.plan_hits += 1
            return found
        with at_once:
            plan, kernels = self._compiled(normalized, donated)
        loaded = self.load(plan, len(normalized.inputs), normalized.scalar_dtypes, kernels)
        if len(self._plans) >= _MOST_PLANS:
            del self._plans[next(iter(self._plans))]  # the oldest; it is on disk still
        self._plans[key] = loaded
        return loaded

    def load(self, plan: CompiledPlan, inputs: int, value_dtypes: Sequence[DType],
             kernels: tuple[Kernel, ...]) -> LoadedPlan:
        """Make a plan that takes this many inputs ready to run; `kernels`: of a plan made just now."""
        with self.queue:
            return LoadedPlan(plan, self.id, self.queue, inputs, value_dtypes, kernels)

    def _compiled(self, normalized: Normalized, donated: Donated) -> tuple[CompiledPlan, tuple[Kernel, ...]]:
        """The compiled plan, and its kernels where it was made now."""
        text = "\0".join([self.context, stable_text(normalized), repr(donated)])
        digest = hashlib.sha256(text.encode()).hexdigest()
        stored = load_plan(digest) if self._cached and not config.VALIDATE.value else None
        if stored is not None:
            GlobalCounters.plan_disk_hits += 1
            GlobalCounters.kernel_disk_hits += len(stored.signatures)
            return stored, ()
        for _, _, kind, _ in normalized.rows:
            self.require(kind.dtype)
        GlobalCounters.scheduled += 1
        roots = rebuild(normalized)
        if config.VERIFY.value:
            verify(roots, GRAMMAR, "normalize")
        plan = build_plan(roots, donated, self.target.capabilities, self.claim)
        compiled = compile_plan(plan, self.id, self.target, self.toolchain, self.context)
        if self._cached:
            store_plan(digest, compiled)
        return compiled, plan.kernels


def _sources(*makers: object) -> str:
    """Sizes and times of the files that plans and binaries come from: an edited compiler starts anew."""
    folders = [Path(__file__).parents[1], *[Path(inspect.getfile(type(maker))).parent for maker in makers]]
    files = sorted({path for folder in folders for path in folder.rglob("*.py")})
    return repr([(path.name, found.st_size, found.st_mtime_ns) for path in files for found in [path.stat()]])


_sessions: dict[DeviceId, Session] = {}
atexit.register(drain)  # before the registry, which is older, closes the devices


def session(device: DeviceId) -> Session:
    """The session of a device, opened on first use."""
    found = _sessions.get(device)
    if found is None:
        found = _sessions[device] = Session(device)
    return found


def memory_of(device: DeviceId) -> MemoryStats:
    """A copy of one device's figures; all 0 where nothing used it yet. Opens nothing."""
    found = _sessions.get(device)
    return MemoryStats() if found is None else replace(found.pool.stats)


@overload
def memory_stats(device: None = None) -> MemoryReport: ...
@overload
def memory_stats(device: str | DeviceId) -> MemoryStats: ...
def memory_stats(device: str | DeviceId | None = None) -> MemoryReport | MemoryStats:
    """Bytes of memory in use, pooled and at most in use so far; see `MemoryStats`.

    device: the figures of that one, all 0 where nothing used it yet. None: a table of all devices in use, by
    their names, which `print` shows line by line.

        print(memory_stats())            # cpu: 1.2 MiB in use, 4.0 MiB pooled, 3.1 MiB at most in use
        memory_stats("cpu").peak
    """
    if device is None:
        return MemoryReport({str(name): memory_of(name) for name in list(_sessions)})
    return memory_of(REGISTRY.resolve(device))


def reset_peak_memory_stats(device: str | DeviceId | None = None) -> None:
    """Let `peak` of a device, or of all, begin anew from what is in use now."""
    chosen = list(_sessions) if device is None else [REGISTRY.resolve(device)]
    for name in chosen:
        if name in _sessions:
            _sessions[name].pool.reset_peak()

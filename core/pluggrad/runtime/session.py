"""What the runtime keeps for a device in use: the open device, its memory, its plans."""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pluggrad import config
from pluggrad.device.registry import REGISTRY
from pluggrad.dtypes import DType
from pluggrad.profiling import follow_setting
from pluggrad.profiling.limits import Limits, measured_by
from pluggrad.runtime.compiled import (
    CompiledPlan,
    Donated,
    context_key,
    load_plan,
    store_plan,
)
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.interrupts import at_once
from pluggrad.runtime.loaded import LoadedPlan
from pluggrad.runtime.memory import Pool
from pluggrad.runtime.normalize import Normalized, stable_text
from pluggrad.runtime.queue import queue_of
from pluggrad.runtime.sources import stamp
from pluggrad.runtime.supported import require_dtype
from pluggrad.runtime.tuning_store import TuningStore
from pluggrad.target import DeviceId

if TYPE_CHECKING:
    from pluggrad.kernel.kernel import Kernel

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
                                  stamp(self.toolchain, *claims), *[c.claim_key for c in claims]])
        self.tuning = TuningStore(self.context)
        measured_by(device, self.limits)
        self._plans: dict[tuple[Any, ...], LoadedPlan] = {}

    def limits(self) -> Limits | None:
        """What the device reaches at most; None where it cannot run what would measure that."""
        from pluggrad.runtime.limits import limits_of  # for profiles alone

        return limits_of(self)

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
        anew = config.VALIDATE.value or config.SEARCH.value
        stored = load_plan(self._digest(normalized, donated)) if self._cached and not anew else None
        if stored is not None:
            GlobalCounters.plan_disk_hits += 1
            GlobalCounters.kernel_disk_hits += len(stored.signatures)
            return stored, ()
        for _, _, kind, _ in normalized.rows:
            self.require(kind.dtype)
        from pluggrad.runtime.compilation import make_plan  # loads the compiler: not before it is needed
        from pluggrad.runtime.tuning import Tuner

        made, kernels = make_plan(normalized, donated, self.id, self.target, self.toolchain, self.claim,
                                  Tuner(self, self.tuning), self.context)
        if self._cached:
            store_plan(self._digest(normalized, donated), made)  # a search has changed what it depends on
        return made, kernels

    def _digest(self, normalized: Normalized, donated: Donated) -> str:
        text = "\0".join([self.context, self.tuning.key, stable_text(normalized), repr(donated)])
        return hashlib.sha256(text.encode()).hexdigest()

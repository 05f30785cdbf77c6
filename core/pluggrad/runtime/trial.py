"""A tuned kernel run by itself, on memory of its own, to see how long it takes."""
from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from pluggrad.device.contract import Device, Executable, Launch, Signature, SlotRef, Toolchain
from pluggrad.kernel.cost import cost, estimate_us
from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.kernel.offer import Claim
from pluggrad.lower import lower
from pluggrad.runtime.compilation import signature_of
from pluggrad.runtime.memory import Pool
from pluggrad.runtime.storage import Storage
from pluggrad.target import DeviceId, Target
from pluggrad.tune import Phase, Tuned

_WARM_UP_RUNS: Final = 2
_FEWEST_RUNS: Final = 3
_MOST_RUNS: Final = 25
_CHUNK: Final = 1 << 20  # elements


class Place(Protocol):
    """An open device, what compiles for it, and its memory. context: what binaries depend on, as text."""

    @property
    def id(self) -> DeviceId: ...
    @property
    def target(self) -> Target: ...
    @property
    def toolchain(self) -> Toolchain: ...
    @property
    def device(self) -> Device: ...
    @property
    def pool(self) -> Pool: ...
    @property
    def claim(self) -> Claim | None: ...
    @property
    def context(self) -> str: ...


class Trial:
    """The phases of one kernel, compiled and bound to memory. Nothing is cached, counted or told."""

    def __init__(self, place: Place, kernel: Kernel, tuned: Tuned) -> None:
        self._device, capabilities = place.device, place.target.capabilities
        self._memory = [_filled(place, param) for param in (*kernel.buffers, *tuned.temporaries)]
        self._slots = [storage.block.allocation for storage in self._memory]
        self._values = [dtype.numpy.type(1).item() for dtype in kernel.values]
        signatures = [signature_of(phase.kernel, place.target, phase.extern) for phase in tuned.phases]
        executables = _loaded(place, tuned.phases, signatures)
        self._commands = [
            Launch(executable, tuple(map(SlotRef, phase.args)), tuple(range(len(kernel.values))),
                   signature.tasks, estimate_us(cost(phase.kernel), capabilities), group=signature.group)
            for phase, signature, executable in zip(tuned.phases, signatures, executables, strict=True)]

    def seconds(self, limit_s: float = 0.1) -> float:
        """The shortest of several runs, which go on for about `limit_s`."""
        for _ in range(_WARM_UP_RUNS):
            self._run()
        begin, times = time.perf_counter(), list[float]()
        while len(times) < _MOST_RUNS:
            times.append(self._run())
            if len(times) >= _FEWEST_RUNS and time.perf_counter() - begin > limit_s:
                break
        return min(times)

    def _run(self) -> float:
        start = time.perf_counter()
        event = self._device.submit(self._commands, self._slots, self._values)
        event.wait()
        seconds = time.perf_counter() - start
        if "events" in self._device.target.capabilities.features:
            return min(seconds, self._device.elapsed(event))  # type: ignore[attr-defined, no-any-return]
        return seconds


def _loaded(place: Place, phases: Sequence[Phase], signatures: Sequence[Signature]) -> list[Executable]:
    sources = [place.toolchain.render(lower(phase.kernel, place.target))
               for phase in phases if phase.extern is None]
    compiled = iter(place.toolchain.compile_many(sources) if sources else ())
    binaries = [next(compiled) if phase.extern is None else phase.extern.payload for phase in phases]
    return [place.device.load(binary, signature)
            for binary, signature in zip(binaries, signatures, strict=True)]


def _filled(place: Place, param: BufferParam) -> Storage:
    """Memory for a buffer: floats between 1/2 and 1, and zeros for what may be an index."""
    itemsize, count = param.dtype.itemsize, min(param.size, _CHUNK)
    storage = Storage(place.id, place.pool, param.size * itemsize)
    if param.dtype.kind == "f" and param.dtype.name != "bfloat16":
        data = np.linspace(0.5, 1, count, dtype=param.dtype.numpy)
    else:
        data = np.zeros(count, param.dtype.numpy)
    for begin in range(0, param.size, _CHUNK):
        part = data[:param.size - begin].data.cast("B")
        place.device.allocator.copyin(storage.block.allocation, begin * itemsize, part)
    return storage

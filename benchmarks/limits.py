"""What this machine can do at the moment: multiply-adds on all cores, bytes that are streamed or only read.

All are measured by a few lines of LLVM IR of their own, so that no defect of pluggrad's code can move them.
"""
from __future__ import annotations

import ctypes
import mmap
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import llvmlite.binding as llvm

LimitName: TypeAlias = Literal["fma", "stream", "read"]

LARGEST_MOVE: Final = 0.15
# Thread pools that split work evenly wait for their slowest thread: on a busy machine they lose far more than
# their share of it, and a comparison says nothing.
LEAST_GRANTED: Final = 0.75
_ACCUMULATORS: Final = 12  # two units, a latency of 4: at least 8 in flight
_FMA_TRIPS: Final = 500_000  # of a task
_FMA_TASKS: Final = 8  # a core
_STREAM_TASK: Final = 1 << 20  # elements
_RUNS: Final = (1, 4, 8)  # of a task, read side by side: which is fastest depends on the machine
_SUMS: Final = 8  # enough to hide an addition's latency
_REPEATS: Final = 5
_DEFAULT_CACHE: Final = 32 << 20
_LARGEST_ARRAY: Final = 1 << 30
_PAGE: Final = 2 << 20  # a huge page

_FMA: Final = """
declare {v} @llvm.fmuladd.{suffix}({v}, {v}, {v})

define void @fma(i64 %trips, ptr %out) {{
entry:
  %x = load {v}, ptr %out, align 4
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{steps}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %trips
  br i1 %more, label %loop, label %done
done:
{stores}
  ret void
}}
"""

_TRIAD: Final = """
define void @triad(i64 %begin, i64 %end, ptr %a, ptr %b, ptr %c) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %at.a = getelementptr inbounds float, ptr %a, i64 %i
  %at.b = getelementptr inbounds float, ptr %b, i64 %i
  %at.c = getelementptr inbounds float, ptr %c, i64 %i
  %x = load {v}, ptr %at.b, align 64
  %y = load {v}, ptr %at.c, align 64
  %scaled = fmul {v} %y, {splat}
  %sum = fadd {v} %x, %scaled
  store {v} %sum, ptr %at.a, align 64, !nontemporal !0
  %next = add i64 %i, {lanes}
  %more = icmp ult i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}}
!0 = !{{ i32 1 }}
"""

_READ: Final = """
define void @read{runs}(i64 %begin, i64 %end, ptr %a, ptr %out) {{
entry:
  %first = getelementptr inbounds float, ptr %a, i64 %begin
  %length = sub i64 %end, %begin
  %run = udiv i64 %length, {runs}
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{steps}
  %next = add i64 %i, {step}
  %more = icmp ult i64 %next, %run
  br i1 %more, label %loop, label %done
done:
{stores}
  ret void
}}
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """fma: GFLOP/s. stream: GB/s, without the write-allocate traffic that streaming stores avoid.

    granted: CPU seconds per second and core that the probe was given; less than 1 where others compute too.
    read: GB/s of a loop that writes nothing, 0 where it was not measured. No floor depends on it.
    """

    fma: float
    stream: float
    granted: float
    read: float = 0.0

    def of(self, name: LimitName) -> float:
        """A limit by name."""
        return {"fma": self.fma, "stream": self.stream, "read": self.read}[name]

    def moved(self, later: Limits) -> float:
        """The larger relative change of the two limits that floors depend on."""
        return max(abs(later.fma / self.fma - 1), abs(later.stream / self.stream - 1))

    def mean(self, later: Limits) -> Limits:
        """Half way between the limits; the smaller grant."""
        granted = min(self.granted, later.granted)
        return Limits((self.fma + later.fma) / 2, (self.stream + later.stream) / 2, granted,
                      (self.read + later.read) / 2)


def last_level_cache() -> int:
    """Bytes of the largest cache that the system reports, else a guess."""
    sizes = [_DEFAULT_CACHE >> 2]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0))
    if platform.system() == "Darwin":
        asked = ["sysctl", "-n", "hw.l2cachesize"]
        sizes.append(int(subprocess.run(asked, capture_output=True, text=True, check=False).stdout or 0))
    return max(sizes) if len(sizes) > 1 else _DEFAULT_CACHE


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class AnyProbe(Protocol):
    """Measures the limits of what the libraries run on."""

    def measure(self) -> Limits: ...

    def quiet(self, before: Limits, after: Limits) -> bool:
        """Whether what was measured in between counts."""
        ...


class Probe:
    """Measures the limits. Holds three arrays, each at least four times the last-level cache.

    any_load: measure on a busy machine too.
    """

    def __init__(self, any_load: bool = False) -> None:
        self.least_granted = 0.0 if any_load else LEAST_GRANTED
        self.cores, self.lanes = cores(), _lanes()
        names = ("fma", "triad", *[f"read{runs}" for runs in _RUNS])
        self._engine = _compiled(_source(self.lanes), names)
        nbytes = min(max(4 * last_level_cache(), 4 * _DEFAULT_CACHE), _LARGEST_ARRAY)
        self.array_bytes = -(-nbytes // (4 * _STREAM_TASK)) * 4 * _STREAM_TASK
        self._arrays = [_pages(self.array_bytes) for _ in range(3)]
        self._stream()  # the first touch

    def measure(self) -> Limits:
        """All limits, the best of a few tries: what slows a try down is not a limit."""
        fma, granted = zip(*[self._fma() for _ in range(_REPEATS)], strict=True)
        stream, read = zip(*[(self._stream(), self._read()) for _ in range(_REPEATS)], strict=True)
        return Limits(max(fma), max(stream), statistics.median(granted), max(read))

    def quiet(self, before: Limits, after: Limits) -> bool:
        """Whether what was measured in between counts: no limit moved much, and the cores were ours."""
        granted = min(before.granted, after.granted)
        return before.moved(after) <= LARGEST_MOVE and granted >= self.least_granted

    def _fma(self) -> tuple[float, float]:
        function = self._engine.function("fma", ctypes.c_int64, ctypes.c_void_p)
        outputs = [(ctypes.c_float * (self.lanes * _ACCUMULATORS))() for _ in range(_FMA_TASKS * self.cores)]
        busy = time.process_time()
        seconds = self._shared([(function, (_FMA_TRIPS, out)) for out in outputs])
        granted = (time.process_time() - busy) / seconds / self.cores
        return 2 * self.lanes * _ACCUMULATORS * _FMA_TRIPS * len(outputs) / seconds / 1e9, granted

    def _stream(self) -> float:
        function = self._engine.function("triad", ctypes.c_int64, ctypes.c_int64, *[ctypes.c_void_p] * 3)
        addresses = [ctypes.addressof(ctypes.c_char.from_buffer(array)) for array in self._arrays]
        begins = range(0, self.array_bytes // 4, _STREAM_TASK)
        seconds = self._shared([(function, (begin, begin + _STREAM_TASK, *addresses)) for begin in begins])
        return 3 * self.array_bytes / seconds / 1e9

    def _read(self) -> float:
        """The best of a few ways to read."""
        types = ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
        addresses = [ctypes.addressof(ctypes.c_char.from_buffer(array)) for array in self._arrays]
        begins = range(0, self.array_bytes // 4, _STREAM_TASK)
        pieces = [(begin, begin + _STREAM_TASK, address) for address in addresses for begin in begins]
        sums = [(ctypes.c_float * (self.lanes * _SUMS))() for _ in pieces]
        rates = []
        for runs in _RUNS:
            function = self._engine.function(f"read{runs}", *types)
            tasks = [(function, (*piece, out)) for piece, out in zip(pieces, sums, strict=True)]
            rates.append(3 * self.array_bytes / self._shared(tasks) / 1e9)
        return max(rates)

    def _shared(self, tasks: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> float:
        """Seconds in which all cores, a thread each, run the tasks, taking one after another."""
        left = iter(tasks)  # a list's iterator hands each out once
        gate = threading.Barrier(self.cores + 1)

        def run() -> None:
            gate.wait()
            for function, arguments in left:
                function(*arguments)

        threads = [threading.Thread(target=run) for _ in range(self.cores)]
        for thread in threads:
            thread.start()
        gate.wait()
        begin = time.perf_counter()
        for thread in threads:
            thread.join()
        return time.perf_counter() - begin


def _lanes() -> int:
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


def _source(lanes: int) -> str:
    vector, suffix = f"<{lanes} x float>", f"v{lanes}f32"
    numbers = range(_ACCUMULATORS)
    step = f"  %b{{0}} = call {vector} @llvm.fmuladd.{suffix}({vector} %a{{0}}, {vector} %x, {vector} %x)"
    store = (f"  %p{{0}} = getelementptr {vector}, ptr %out, i64 {{0}}\n"
             f"  store {vector} %b{{0}}, ptr %p{{0}}, align 4")
    phis = "\n".join(f"  %a{i} = phi {vector} [ zeroinitializer, %entry ], [ %b{i}, %loop ]" for i in numbers)
    splat = "<" + ", ".join(["float 3.0"] * lanes) + ">"
    fma = _FMA.format(v=vector, suffix=suffix, phis=phis, steps="\n".join(map(step.format, numbers)),
                      stores="\n".join(map(store.format, numbers)))
    reads = [_read_source(vector, lanes, runs) for runs in _RUNS]
    return "".join([fma, _TRIAD.format(v=vector, splat=splat, lanes=lanes), *reads])


def _read_source(vector: str, lanes: int, runs: int) -> str:
    """A loop that adds up `runs` runs of a task side by side."""
    each, numbers = _SUMS // runs, range(_SUMS)
    phis = [f"  %a{n} = phi {vector} [ zeroinitializer, %entry ], [ %b{n}, %loop ]" for n in numbers]
    steps, stores = [], []
    for n in numbers:
        steps += [f"  %r{n} = mul i64 %run, {n // each}", f"  %o{n} = add i64 %r{n}, {n % each * lanes}",
                  f"  %i{n} = add i64 %o{n}, %i",
                  f"  %p{n} = getelementptr inbounds float, ptr %first, i64 %i{n}",
                  f"  %x{n} = load {vector}, ptr %p{n}, align 64", f"  %b{n} = fadd {vector} %a{n}, %x{n}"]
        stores += [f"  %s{n} = getelementptr {vector}, ptr %out, i64 {n}",
                   f"  store {vector} %b{n}, ptr %s{n}, align 4"]
    return _READ.format(runs=runs, step=each * lanes, phis="\n".join(phis), steps="\n".join(steps),
                        stores="\n".join(stores))


class _Engine:
    """Compiled functions by name."""

    def __init__(self, library: Any) -> None:
        self._library = library  # keeps the code mapped

    def function(self, name: str, *types: Any) -> Callable[..., None]:
        made: Callable[..., None] = ctypes.CFUNCTYPE(None, *types)(self._library[name])
        return made


def _compiled(source: str, names: tuple[str, ...]) -> _Engine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3)
    module = llvm.parse_assembly(source)
    module.verify()
    builder = llvm.JITLibraryBuilder().add_object_img(machine.emit_object(module)).add_current_process()
    for name in names:
        builder.export_symbol(name)
    return _Engine(builder.link(llvm.create_lljit_compiler(machine), "limits"))


def _pages(nbytes: int) -> mmap.mmap:
    memory = mmap.mmap(-1, nbytes)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory

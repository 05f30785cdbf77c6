"""What this machine's CPU can do, as data: instruction set, caches, cores."""
from __future__ import annotations

import math
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pluggrad.plugin_api import Capabilities, DeviceUnavailable, Target, dtypes
from pluggrad_cpu import settings
from pluggrad_cpu.elementwise import RENDERED_OPS


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """One level of vector code. cpu: what LLVM compiles for when this level is asked for by name."""

    name: str
    machine: str
    cpu: str
    features: tuple[str, ...]
    vector_bytes: int
    vector_registers: int
    masked_memory: bool


# widest first, the last of a machine is its baseline; AVX2's masked stores are microcoded on some: not cheap
_LEVELS: Final = (
    InstructionSet("avx512", "x86_64", "x86-64-v4", ("avx512f", "avx512bw", "avx512vl"), 64, 32, True),
    InstructionSet("avx2", "x86_64", "x86-64-v3", ("avx2", "fma"), 32, 16, False),
    InstructionSet("sse2", "x86_64", "x86-64", (), 16, 16, False),
    InstructionSet("neon", "aarch64", "generic", (), 16, 32, False),
)
_DOT2: Final = frozenset({"avx512bf16", "avx512vl"})
_HAS_STACK: Final = sys.platform != "win32"  # where a large frame calls a function of the C library
_MACHINES: Final = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}

# float16 and bfloat16 are stored as they are and computed in float32
_ARITHMETIC: Final = frozenset(d.name for d in dtypes.ALL) - {"float16", "bfloat16"}
# replaying a list of one kernel costs 1.2 us; the team adds 1 us when it is awake and 15 to 50 us when asleep
_LAUNCH_US: Final = 1.2
_TEAM_US: Final = 15.0
# two fused multiply-adds a cycle on half of the lanes' worth of units, at about 3.2 GHz
_FLOPS_PER_VECTOR_BYTE: Final = 1.6e9
# of a task's stack: threads have 8 MB, some systems give them 1 or 2
_MOST_LOCAL: Final = 512 << 10
_LINE: Final = 64  # bytes of a cache line
_CACHE_DEFAULTS: Final = (1 << 20, 8 << 20)


def machine() -> str:
    """The instruction set family in LLVM's words, or as the system calls it."""
    name = platform.machine().lower()
    return _MACHINES.get(name, name)


def cores() -> int:
    """Threads of a team: the setting, else the cores that this process may use, within any quota."""
    if settings.THREADS.value:
        return settings.THREADS.value
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, _quota()))


def _quota() -> int:
    """Cores that the control group's time quota amounts to."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # not Linux, an older hierarchy, or "max"
        return 1 << 16


@cache
def caches() -> tuple[int, int]:
    """Bytes of the first core's second-level cache, and of the last level."""
    levels: dict[int, int] = {}
    try:
        for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*"):
            if (index / "type").read_text().strip() != "Instruction":
                size = (index / "size").read_text().strip()
                unit = 20 if size.endswith("M") else 10
                levels[int((index / "level").read_text())] = int(size.rstrip("KM")) << unit
    except (OSError, ValueError):
        return _CACHE_DEFAULTS
    if not levels:
        return _CACHE_DEFAULTS
    return levels.get(2, levels[max(levels)]), max(levels[max(levels)], levels.get(2, 0))


@cache
def _host() -> tuple[str, str, frozenset[str]]:
    """LLVM's name of this CPU, its feature string, and the features that are on."""
    import llvmlite.binding as llvm

    try:
        flags = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot ask this system
        return str(llvm.get_host_cpu_name()), "", frozenset()
    enabled = frozenset(name for name, on in flags.items() if on)
    return str(llvm.get_host_cpu_name()), str(flags.flatten()), enabled


def _choose(wanted: str, features: frozenset[str]) -> InstructionSet | None:
    """The level of that name, or the widest that `features` allow; None for scalar code."""
    usable = [low for low in _LEVELS if low.machine == machine() and features.issuperset(low.features)]
    if wanted == "plain" or (wanted == "native" and not usable):
        return None
    if wanted == "native":
        return usable[0]
    found = next((level for level in usable if level.name == wanted), None)
    if found is None:
        names = ", ".join(["native", *(level.name for level in usable), "plain"])
        raise DeviceUnavailable(op=settings.TARGET.variable, expected=f"one that this CPU has ({names})",
                                got=repr(wanted))
    return found


def host_target() -> Target:
    """What code is made for on this machine, under the settings. Imports llvmlite."""
    from pluggrad_cpu import llvm

    cpu, flags, features = _host()
    wanted = settings.TARGET.value
    level = _choose(wanted, features)
    if wanted != "native":
        features = frozenset()  # of a level by name there is what it stands for
        cpu, flags = (level or next(low for low in reversed(_LEVELS) if low.machine == machine())).cpu, ""
    return Target(f"{llvm.host_triple()}|{cpu}|{flags}", capabilities(level, features))


def named_targets() -> dict[str, Target]:
    """Code of each level, whether or not this CPU has it. Imports llvmlite."""
    from pluggrad_cpu import llvm

    triples = {level.machine: f"{level.machine}-unknown-linux-gnu" for level in _LEVELS}
    triples[machine()] = llvm.host_triple()
    return {level.name: Target(f"{triples[level.machine]}|{level.cpu}|", capabilities(level))
            for level in _LEVELS}


def capabilities(level: InstructionSet | None, features: frozenset[str] = frozenset()) -> Capabilities:
    """The capabilities of this machine with code of that level (None: scalar) and further features."""
    private, shared = caches()
    vector_bytes = level.vector_bytes if level else 0
    return Capabilities(
        dtypes=frozenset(d.name for d in dtypes.ALL), arithmetic=_ARITHMETIC,
        ops=RENDERED_OPS | {"PREFETCH"} | ({"DOT2"} if features >= _DOT2 else set()),
        vector_bytes=vector_bytes, vector_registers=level.vector_registers if level else 16,
        masked_memory=level.masked_memory if level else False, register_transposes=True,
        cores=cores(), cache_bytes=private, shared_cache_bytes=shared, alignment=64,
        streaming_line_bytes=_LINE if level else 0, prefetch=True, unified_memory=True,
        local_bytes=min(private // 2, _MOST_LOCAL) if _HAS_STACK else 0,
        launch_cost_us=_LAUNCH_US, team_cost_us=_TEAM_US,
        flops_per_core=max(vector_bytes, 8) * _FLOPS_PER_VECTOR_BYTE,
        features=frozenset({"graph", "threads", "zero_copy"}))

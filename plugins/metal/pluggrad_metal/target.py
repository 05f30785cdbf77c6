"""What an Apple GPU can do, as data. A description can be made without a Mac, for any family of GPUs."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pluggrad.plugin_api import Capabilities, Target, dtypes
from pluggrad_metal import matrix_units
from pluggrad_metal.render import MetalRenderer

_BFLOAT_LANGUAGE: Final = (3, 1)
_BFLOAT_FAMILY: Final = 6
_MATRIX_FAMILY: Final = 7  # from which on simdgroups multiply matrices
_BUFFERS: Final = 31  # of one kernel, by index
_SIMD_WIDTH: Final = 32
_MAX_GROUP: Final = 256  # work items: more leave too few registers for each
_VECTOR_BYTES: Final = 16  # float4: the widest load of one work item
_REGISTERS: Final = 64  # of such vectors, before an item's tile spills
_CACHE_PER_CORE: Final = 8 << 10  # the first level of a core's data
_SHARED_CACHE: Final = 8 << 20
_ALIGNMENT: Final = 256  # of an offset into a buffer, as the strictest Metal devices ask for it
_LAUNCH_US: Final = 5.0
_TEAM_US: Final = 10.0
_FLOPS_PER_CORE: Final = 3e11  # 128 lanes, a multiply-add in each, at about 1.2 GHz
# the fewest cores, and the slowest memory, of the chips that bear such a name
_CORES: Final = {"": 7, "Pro": 14, "Max": 24, "Ultra": 48}
_BYTES_PER_SECOND: Final = {"": 68e9, "Pro": 150e9, "Max": 300e9, "Ultra": 800e9}
_ANY_FEATURES: Final = frozenset({"graph", "async", "events"})


@dataclass(frozen=True, slots=True)
class Gpu:
    """What is asked of a Metal device. Sizes in bytes.

    family: of Apple's own GPUs, as in Apple7; 0 for others. language: the newest version of the Metal
    Shading Language that the system has. unified: the host sees the GPU's memory. working_set: what should be
    in use at most. max_buffer: the largest allocation. max_items: work items of a group. scratch: memory that
    a group shares.
    """

    name: str
    family: int
    language: tuple[int, int]
    unified: bool
    working_set: int
    max_buffer: int
    max_items: int = 1024
    scratch: int = 32 << 10

    @property
    def bfloat(self) -> bool:
        """Whether kernels may use the type bfloat."""
        return self.language >= _BFLOAT_LANGUAGE and self.family >= _BFLOAT_FAMILY

    @property
    def matrix_inputs(self) -> tuple[str, ...]:
        """The dtypes of matrices that a simdgroup multiplies."""
        if self.family < _MATRIX_FAMILY:
            return ()
        return ("float16", "bfloat16", "float32") if self.bfloat else ("float16", "float32")

    @property
    def chip(self) -> str:
        """The size of the chip: "", "Pro", "Max" or "Ultra"."""
        match = re.search(r"\b(Pro|Max|Ultra)$", self.name)
        return match[1] if match else ""

    def arch(self) -> str:
        """What code for it depends on; `language_of` reads it."""
        major, minor = self.language
        name = " ".join(self.name.replace("|", " ").split())
        return f"{name}|apple{self.family}|metal{major}.{minor}"


# for making code without a Mac
M1: Final = Gpu("Apple M1", 7, (3, 0), True, 11 << 30, 8 << 30)
M3_MAX: Final = Gpu("Apple M3 Max", 9, (3, 1), True, 96 << 30, 64 << 30)
KNOWN: Final = {f"apple{gpu.family}": gpu for gpu in (M1, M3_MAX)}


def language_of(arch: str) -> tuple[int, int]:
    """The version of the language that a target's `arch` names."""
    match = re.fullmatch(r".*\|metal(\d+)\.(\d+)", arch)
    if match is None:
        raise ValueError(f"not the arch of a Metal target: {arch!r}")
    return int(match[1]), int(match[2])


def target_of(gpu: Gpu) -> Target:
    """What code is made for on a GPU."""
    return Target(gpu.arch(), capabilities(gpu))


def capabilities(gpu: Gpu) -> Capabilities:
    """The capabilities of a GPU: groups of work items, short vectors, memory of a group."""
    stored = {dtype.name for dtype in dtypes.ALL} - {"float64"}
    return Capabilities(
        dtypes=frozenset(stored), arithmetic=frozenset(stored if gpu.bfloat else stored - {"bfloat16"}),
        ops=MetalRenderer.ops, vector_bytes=_VECTOR_BYTES, vector_registers=_REGISTERS,
        cores=_CORES[gpu.chip], cache_bytes=_CACHE_PER_CORE, shared_cache_bytes=_SHARED_CACHE,
        alignment=_ALIGNMENT, max_buffers=_BUFFERS - 1,  # one holds the run-time values
        max_group=min(_MAX_GROUP, gpu.max_items), subgroup_width=_SIMD_WIDTH, scratch_bytes=gpu.scratch,
        matrix_units=tuple(map(matrix_units.unit, gpu.matrix_inputs)),
        unified_memory=gpu.unified, launch_cost_us=_LAUNCH_US, team_cost_us=_TEAM_US,
        flops_per_core=_FLOPS_PER_CORE, bytes_per_second=_BYTES_PER_SECOND[gpu.chip],
        features=_ANY_FEATURES | {"zero_copy"} if gpu.unified else _ANY_FEATURES)

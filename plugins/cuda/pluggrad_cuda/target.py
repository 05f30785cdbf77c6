"""What a GPU can do, as data: from a description of it, so that code can be made where there is none."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pluggrad.plugin_api import Capabilities, Target, dtypes
from pluggrad_cuda.architecture import Architecture
from pluggrad_cuda.matrix_units import units
from pluggrad_cuda.render import CudaRenderer

FEATURES: Final = frozenset({"graph", "async", "events", "peer"})
# halves are loaded, stored, converted by the hardware and, outside the matrix units, computed in float32: a
# chain of operations rounds once
_STORED_ONLY: Final = frozenset({"float16", "bfloat16"})
_FLOAT32_UNITS: Final = {80: 64}  # of a multiprocessor
_MOST_UNITS: Final = 128  # of all others since

# Hz of the multiprocessors and bytes a second of the memory, from a compute capability on: a usual GPU's, for
# drivers that answer 0. Only estimates hang on them
_USUAL_RATES: Final = {0: (1.4e9, 3e11), 80: (1.41e9, 1.555e12), 86: (1.7e9, 6e11), 90: (1.755e9, 3.35e12),
                       100: (1.9e9, 7.7e12), 120: (2.4e9, 1e12)}
_KILO: Final = 1e3  # the driver's clocks are in kHz
_THREADS: Final = 256  # of a block: more leave too few registers for each
_VECTOR_BYTES: Final = 16  # the widest load of a thread
_REGISTERS: Final = 64  # of 16 bytes: a thread can have 255 of 4
_WITH_MATRIX_UNITS: Final = 80  # the compute capability from which on `matrix_units` are there
_PARAMETER_BYTES: Final = 4096  # of a kernel
_VALUE_BYTES: Final = 256  # of those, kept free for run-time values
_MAP_BYTES: Final = 3 * 128  # and for the maps of two boxes, which are aligned
_POINTER: Final = 8
_ALIGNMENT: Final = 256  # of the driver's allocations
_LAUNCH_US: Final = 2.5  # of a kernel in a graph
_TEAM_US: Final = 5.0


@dataclass(frozen=True, slots=True)
class Properties:
    """What the driver says about a GPU. Sizes in bytes.

    capability: compute capability times ten. cache_bytes: of the first level, a multiprocessor's, the
    memory that its blocks share included. shared_bytes: that a block can have of it. clock_hz: of the
    multiprocessors. bytes_per_second: of device memory. maps: the driver makes those of tensors, by which
    boxes are copied.
    """

    name: str
    capability: int
    multiprocessors: int
    cache_bytes: int
    shared_bytes: int
    l2_bytes: int
    clock_hz: float
    bytes_per_second: float
    maps: bool = True

    @classmethod
    def asked(cls, name: str, capability: int, attribute: Callable[[str], int], *,
              maps: bool = True) -> Properties:
        """From the driver, whose attributes have pycuda's names; a usual rate where it answers 0."""
        double_rate, bits = 2, 8
        bus = attribute("GLOBAL_MEMORY_BUS_WIDTH") * attribute("MEMORY_CLOCK_RATE") * _KILO
        clock, memory = _USUAL_RATES[max(since for since in _USUAL_RATES if since <= capability)]
        return cls(
            name, capability, attribute("MULTIPROCESSOR_COUNT"),
            attribute("MAX_SHARED_MEMORY_PER_MULTIPROCESSOR"),
            attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"), attribute("L2_CACHE_SIZE"),
            attribute("CLOCK_RATE") * _KILO or clock, double_rate * bus / bits or memory, maps)


# for making code without a GPU
A100: Final = Properties("NVIDIA A100-SXM4-40GB", 80, 108, 192 << 10, 163 << 10, 40 << 20, 1.41e9, 1.555e12)
H100: Final = Properties("NVIDIA H100 80GB HBM3", 90, 132, 256 << 10, 227 << 10, 50 << 20, 1.755e9, 3.35e12)
KNOWN: Final = {str(Architecture.of(gpu.capability)): gpu for gpu in (A100, H100)}


def target_of(gpu: Properties) -> Target:
    """What code is made for on a GPU."""
    return Target(str(Architecture.of(gpu.capability)), capabilities(gpu))


def capabilities(gpu: Properties) -> Capabilities:
    """The capabilities of a GPU."""
    stored = frozenset(dtype.name for dtype in dtypes.ALL)
    modern = gpu.capability >= _WITH_MATRIX_UNITS
    matrix_units = units(gpu.capability, maps=gpu.maps) if modern else ()
    kept = _VALUE_BYTES + (_MAP_BYTES if any(unit.engine for unit in matrix_units) else 0)
    float32_units = _FLOAT32_UNITS.get(gpu.capability, _MOST_UNITS)
    return Capabilities(
        dtypes=stored, arithmetic=stored - _STORED_ONLY, ops=CudaRenderer.ops,
        vector_bytes=_VECTOR_BYTES, vector_registers=_REGISTERS, cores=gpu.multiprocessors,
        cache_bytes=gpu.cache_bytes, shared_cache_bytes=gpu.l2_bytes, alignment=_ALIGNMENT,
        max_buffers=(_PARAMETER_BYTES - kept) // _POINTER,
        max_group=_THREADS, subgroup_width=CudaRenderer.subgroup, scratch_bytes=gpu.shared_bytes,
        copies_ahead=modern, matrix_units=matrix_units,
        launch_cost_us=_LAUNCH_US, team_cost_us=_TEAM_US,
        flops_per_core=2 * float32_units * gpu.clock_hz, bytes_per_second=gpu.bytes_per_second,
        features=FEATURES)

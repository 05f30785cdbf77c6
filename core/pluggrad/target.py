"""Frozen values that describe a device, picklable, without a handle. Above loading, stages see only these."""
from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple

from pluggrad.errors import UnknownDevice

_NAME = re.compile(r"(?P<type>[a-z][a-z0-9_-]*)(:(?P<index>\d+))?(@(?P<variant>[a-z0-9_-]+))?")


class DeviceId(NamedTuple):
    """`type[:index][@variant]`, in lower case; index 0 and an empty variant are left out of the text."""

    type: str
    index: int = 0  # type: ignore[assignment]  # shadows tuple.index: nobody searches a device name
    variant: str = ""

    def __str__(self) -> str:
        index = f":{self.index}" if self.index else ""
        return f"{self.type}{index}@{self.variant}" if self.variant else self.type + index

    @classmethod
    def parse(cls, text: str) -> DeviceId:
        """Read a device name; UnknownDevice if it does not follow the grammar."""
        match = _NAME.fullmatch(text.strip().lower())
        if match is None:
            raise UnknownDevice(op="device", expected="type[:index][@variant]", got=repr(text))
        return cls(match["type"], int(match["index"] or 0), match["variant"] or "")


def _keyed(**options: Any) -> Any:
    """A capability that changes the code generated, and so belongs to cache keys."""
    return field(metadata={"key": True}, **options)


class Narrow(NamedTuple):
    """The dtypes of a product's factors that are best left as they are in memory.

    gathered: those that stay so where windows or padding stand between memory and the product, too.
    """

    dtypes: frozenset[str] = frozenset()
    gathered: frozenset[str] = frozenset()


WIDE: Final = Narrow()  # none


class BoxEngine(NamedTuple):
    """What copies boxes of buffers to memory that a group shares, while its items do something else.

    span_bytes: a box lies there in spans of so many bytes along memory, as a matrix unit reads them.
    alignment: bytes, of where a box may begin in its buffer, and of all strides but the first, an element's.
    most: positions of a box along a dimension, but for spans. dims: of a box, at least two and at most these.
    """

    span_bytes: int
    alignment: int
    most: int
    dims: int


class MatrixUnit(NamedTuple):
    """A unit that multiplies matrices: sums of `rows` x `columns` are taken up by `items` work items
    together, `steps` of the sum at a time.

    inputs, sums: dtypes; a unit for float32 may round its inputs. sums_per_item: how many of them the
    registers of an item have room for. piece_bytes: operands lie in local memory in columns of pieces of so
    many bytes (0: row by row). in_flight: products that may be under way while the next one is begun. engine:
    copies operands that are boxes (None: work items do).
    """

    rows: int
    columns: int
    steps: int
    inputs: str
    sums: str = "float32"
    items: int = 32
    sums_per_item: int = 128
    piece_bytes: int = 16
    in_flight: int = 0
    engine: BoxEngine | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device can do, as data. Sizes in bytes, times in microseconds.

    dtypes: storage dtypes it loads and stores. arithmetic: those it computes in (other floats are widened).
    ops: names of ops that its renderer implements itself; those that `lower` can decompose it does
    otherwise. vector_bytes: width of one vector register (0: scalar code only). vector_registers: how many
    there are. masked_memory: masked vector loads and stores are cheap. register_transposes: a block that is
    strided along its lanes and contiguous along its tile is moved as vectors and transposed in registers,
    not element by element. cores: workers that run tasks side by side. local_bytes: memory that a task may
    have for itself, near enough to be read like a cache (0: none). cache_bytes: per-core cache to block
    for. shared_cache_bytes: last-level cache. alignment: of allocations. streaming_line_bytes: a store that
    fills this much, aligned, can pass the caches by (0: none can). prefetch: it pays to ask for
    memory ahead of time, by the op PREFETCH. max_buffers: buffers one kernel may take (0: no limit); regions
    are cut to it, five is the least. max_grid: tasks of one launch (0: no limit). max_group: work items that
    may run a task together; above 1, tasks are divided among them. subgroup_width: work items that execute
    in step. scratch_bytes: fast memory that a group shares (0: its items combine nothing). unified_memory:
    the host can read and write device memory. interprets_kernels: runs the untuned Kernel, without lowering.
    matrix_units: by dtype of inputs, at most one for each; their panels lie in memory that a group shares.
    copies_ahead: work items can have rows copied to that memory while they do something else.
    launch_cost_us: one launch of an empty kernel on one core; team_cost_us: the same with all cores woken.
    flops_per_core, bytes_per_second: rough rates for cost estimates. features: optional protocols declared.
    widening: (dtype, factor) pairs, where results in a dtype may lie that much further off than the table
    of tolerances says; the conformance suite prints them.

    Nothing reads max_grid, the launch costs, masked_memory and unified_memory yet: they say what a device is,
    for schedules to come.
    """

    dtypes: frozenset[str] = _keyed()
    arithmetic: frozenset[str] = _keyed()
    ops: frozenset[str] = _keyed(default=frozenset())
    vector_bytes: int = _keyed(default=0)
    vector_registers: int = _keyed(default=16)
    masked_memory: bool = _keyed(default=False)
    register_transposes: bool = _keyed(default=False)
    cores: int = _keyed(default=1)
    cache_bytes: int = _keyed(default=1 << 20)
    local_bytes: int = _keyed(default=0)
    shared_cache_bytes: int = _keyed(default=8 << 20)
    alignment: int = _keyed(default=64)
    streaming_line_bytes: int = _keyed(default=0)
    prefetch: bool = _keyed(default=False)
    max_buffers: int = _keyed(default=0)
    max_grid: int = _keyed(default=0)
    max_group: int = _keyed(default=0)
    subgroup_width: int = _keyed(default=1)
    scratch_bytes: int = _keyed(default=0)
    unified_memory: bool = False
    interprets_kernels: bool = _keyed(default=False)
    copies_ahead: bool = _keyed(default=False)
    matrix_units: tuple[MatrixUnit, ...] = _keyed(default=())
    launch_cost_us: float = 1.0
    team_cost_us: float = 10.0
    flops_per_core: float = _keyed(default=5e10)
    bytes_per_second: float = _keyed(default=3e10)
    features: frozenset[str] = frozenset()
    widening: tuple[tuple[str, float], ...] = ()

    @property
    def online(self) -> bool:
        """Whether tasks have the memory and the vectors to reduce in blocks what they compute themselves."""
        return bool(self.local_bytes and self.vector_bytes) and not self.interprets_kernels

    @property
    def pairs(self) -> bool:
        """Whether tasks multiply bfloat16 two at a time."""
        return "DOT2" in self.ops and bool(self.vector_bytes) and not self.interprets_kernels

    def matrix_unit(self, inputs: str) -> MatrixUnit | None:
        """The unit that multiplies matrices of dtype `inputs`, if there is one."""
        return next((unit for unit in self.matrix_units if unit.inputs == inputs), None)

    @property
    def narrow_factors(self) -> Narrow:
        """The dtypes that products read as they are, and widen: by pairs, or by a matrix unit, which is
        brought its panels from wherever they lie."""
        units = frozenset([unit.inputs for unit in self.matrix_units if unit.inputs != unit.sums])
        return Narrow(units | {"bfloat16"} if self.pairs else units, units)

    def key(self) -> tuple[Any, ...]:
        """The part that changes generated code, stable across processes."""
        values = (getattr(self, f.name) for f in fields(self) if f.metadata.get("key"))
        return tuple(tuple(sorted(v)) if isinstance(v, frozenset) else v for v in values)


@dataclass(frozen=True, slots=True)
class Target:
    """What code is made for: the architecture string that a toolchain understands, and the capabilities."""

    arch: str
    capabilities: Capabilities

    def key(self) -> tuple[Any, ...]:
        """The architecture and what else changes generated code, stable across processes."""
        return (self.arch, *self.capabilities.key())

"""Binaries of the double: a CUBIN's header, and behind it what its kernels take and compute."""

from __future__ import annotations

import ctypes
import json
import re
import struct
from collections.abc import Callable, Sequence
from ctypes import c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np

from pluggrad import dtypes
from pluggrad.device.contract import Signature, Toolchain
from pluggrad.device.seal import seal
from pluggrad.dtypes import DType
from pluggrad.errors import CompileError
from pluggrad.kernel.interpret import compile_kernel
from pluggrad.kernel.kernel import Box, BufferParam
from pluggrad.kernel.text import kernel_text, parse_kernel
from pluggrad.lower.program import Program
from tests.plugins.cuda.double.world import Failed, Work, World

_HEADER = 64
ENCODED = 0x7E5042 << 32  # what a map begins with, and its number
_MADE = "Cuda compilation tools, release {0}.{1}, V{0}.{1}.37"
Run = Callable[[Sequence[np.ndarray], Sequence[Any]], None]


def _add(buffers: Sequence[np.ndarray], values: Sequence[Any]) -> None:
    buffers[0][:] = buffers[1] + np.float32(values[0])


def _halve(buffers: Sequence[np.ndarray], values: Sequence[Any]) -> None:
    buffers[0][:] = buffers[0] / 2 + np.float32(values[0])


@dataclass(frozen=True)
class TensorMap:
    """What a tensor map was made from; strides in bytes."""

    kind: int
    address: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    every: tuple[int, ...]
    modes: tuple[int, ...]

    @property
    def is_valid(self) -> bool:
        """Whether cuda.h lets it be."""
        aligned = self.address % 16 == 0 and all(s % 16 == 0 and s < 1 << 40 for s in self.strides)
        return aligned and 1 <= len(self.extents) <= 5 and all(0 < n <= 1 << 31 for n in self.extents) \
            and all(0 < n <= 256 for n in self.box) and all(0 < n <= 8 for n in self.every)


# kernels written by hand: roles of their buffers, dtypes of their values, what they do
HAND: dict[str, tuple[tuple[str, ...], tuple[str, ...], Run]] = {
    "add": (("out", "in"), ("float32",), _add),
    "halve": (("inout",), ("float32",), _halve),
}


@dataclass(frozen=True)
class Loaded:
    """A kernel as a module has it."""

    name: str
    buffers: tuple[BufferParam, ...]
    values: tuple[DType, ...]
    tasks: int
    group: int
    static_shared: int
    dynamic_shared: int
    run: Run
    maps: int = 0

    def bind(self, world: World, gpu: Any, grid: tuple[int, ...], block: tuple[int, ...], shared: int,
             parameters: int) -> Work:
        """What one launch does; its parameters are read now, as the driver copies them."""
        blocks = grid[0] * grid[1]
        if not self.tasks <= blocks < self.tasks + grid[0] or grid[2] != 1 or grid[0] >= 1 << 31:
            world.violate(f"{self.name}: a grid of {grid} for {self.tasks} tasks")
        if block != (self.group, 1, 1):
            world.violate(f"{self.name}: blocks of {block} for groups of {self.group}")
        if shared != self.dynamic_shared:
            world.violate(f"{self.name}: {shared} bytes of dynamic shared memory, not {self.dynamic_shared}")
        places = [c_void_p.from_address(parameters + 8 * i).value or 0
                  for i in range(len(self.buffers) + self.maps + len(self.values))]
        addresses = [c_uint64.from_address(place).value for place in places[:len(self.buffers)]]
        maps, behind = places[len(self.buffers):][:self.maps], places[len(self.buffers) + self.maps:]
        for place in maps:
            self._look_at(world, place, addresses)
        values = [self._value(world, place, dtype) for place, dtype in zip(behind, self.values, strict=True)]
        sizes = [b.size * b.dtype.itemsize for b in self.buffers]
        for address in addresses:
            if address % 16:
                world.violate(f"{self.name}: a buffer at {address:#x}, which vectors cannot be loaded from")

        def work() -> None:
            if self.name in world.faults:
                raise Failed(world.faults.pop(self.name))
            arrays = [gpu.bytes_at(address, size).view(b.dtype.numpy)
                      for address, size, b in zip(addresses, sizes, self.buffers, strict=True)]
            self.run(arrays, values)
        return Work(work, tuple(zip(addresses, sizes, strict=True)))

    def _look_at(self, world: World, place: int, addresses: Sequence[int]) -> None:
        """Violation unless a map has been encoded, for a buffer that the kernel is given."""
        word = c_uint64.from_address(place).value - ENCODED
        if place % 64 or not 0 <= word < len(world.maps):
            world.violate(f"{self.name}: a tensor map that is none, or not aligned to 64 bytes")
        elif not any(0 <= world.maps[word].address - address < 4096 for address in addresses):
            world.violate(f"{self.name}: a tensor map of memory that the kernel is not given")

    def _value(self, world: World, place: int, dtype: DType) -> Any:
        if place % dtype.itemsize:
            world.violate(f"{self.name}: a {dtype.name} at an address that is no multiple of its size")
        raw = ctypes.string_at(place, dtype.itemsize)
        if dtype is dtypes.bfloat16:
            return float(np.frombuffer(b"\0\0" + raw, np.float32)[0])
        return np.frombuffer(raw, dtype.numpy)[0].item()


@dataclass(frozen=True)
class Image:
    """A CUBIN that was loaded."""

    capability: tuple[int, int]
    toolkit: tuple[int, int]
    kernels: dict[str, Loaded]

    @classmethod
    def at(cls, address: int) -> Image | None:
        """What lies at an address; None if it is no CUBIN."""
        header = ctypes.string_at(address, _HEADER + 8)
        if header[:4] != b"\x7fELF" or header[18:20] != b"\xbe\0":
            return None
        flags, = struct.unpack_from("<I", header, 48)
        size, = struct.unpack_from("<Q", header, _HEADER)
        content = json.loads(ctypes.string_at(address + _HEADER + 8, size))
        release = re.search(r"release (\d+)\.(\d+)", content["made"])
        assert release is not None
        kernels = {name: _loaded(name, **told) for name, told in content["kernels"].items()}
        return cls(divmod(flags >> 8 & 0xFF, 10), (int(release[1]), int(release[2])), kernels)


def _loaded(name: str, text: str | None, size: int, tasks: int, group: int, static_shared: int,
            dynamic_shared: int, maps: int = 0) -> Loaded:
    if text is None:
        roles, values, run = HAND[name]
        buffers = tuple(BufferParam(dtypes.float32, size, role) for role in roles)
        taken = tuple(getattr(dtypes, value) for value in values)
    else:
        kernel = parse_kernel(text)
        buffers = tuple(b for b in kernel.buffers if b.role != "local")
        taken, run = kernel.values, compile_kernel(kernel)
    return Loaded(name, buffers, taken, tasks, group, static_shared, dynamic_shared, run, maps)


def image(kernels: dict[str, dict[str, Any]], capability: tuple[int, int] = (9, 0),
          toolkit: tuple[int, int] = (13, 0)) -> bytes:
    """A CUBIN of these kernels, as a compiler would give it."""
    header = bytearray(_HEADER)
    header[:9] = b"\x7fELF\x02\x01\x01\x41\x08"
    struct.pack_into("<H", header, 18, 190)
    struct.pack_into("<I", header, 48, 0x6000004 | (10 * capability[0] + capability[1]) << 8)
    content = json.dumps({"made": _MADE.format(*toolkit), "kernels": kernels}).encode()
    return bytes(header) + struct.pack("<Q", len(content)) + content


def hand_kernel(name: str, size: int = 16, tasks: int | None = None, group: int = 1, static_shared: int = 0,
                dynamic_shared: int = 0, maps: int = 0) -> dict[str, dict[str, Any]]:
    """A kernel of `HAND` on buffers of `size` floats."""
    return {name: {"text": None, "size": size, "tasks": size if tasks is None else tasks, "group": group,
                   "static_shared": static_shared, "dynamic_shared": dynamic_shared, "maps": maps}}


def signature(name: str, size: int = 16, tasks: int | None = None, group: int = 1,
              scratch: int = 0, boxes: tuple[Box, ...] = (), dtype: DType = dtypes.float32) -> Signature:
    """How a kernel of `HAND` is called."""
    roles, values, _ = HAND[name]
    return Signature(name, tuple(BufferParam(dtype, size, role) for role in roles),
                     tuple(getattr(dtypes, value) for value in values), size if tasks is None else tasks,
                     scratch, group=group, boxes=boxes)


class DoubleToolchain(Toolchain):
    """The source of a kernel is its text, which the interpreter runs."""

    cache_key = "double 1"

    def render(self, program: Program) -> str:
        return json.dumps({program.name: {
            "text": kernel_text(program.kernel), "size": 0, "tasks": program.tasks, "group": program.group,
            "static_shared": 0, "dynamic_shared": 0}})

    def compile(self, source: str) -> bytes:
        return seal(image(_parsed(source)))

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        merged: dict[str, Any] = {}
        for source in sources:
            merged |= _parsed(source)
        return [seal(image(merged))] * len(sources)


def _parsed(source: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(source)
        return found
    except ValueError as error:
        raise CompileError("not the text of kernels", source=source, log=str(error)) from error

"""The device under test, as tests get it: what it declares, the open device, ways to run something."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pluggrad import dtypes
from pluggrad.device.contract import (
    Allocation,
    Allocator,
    Backend,
    Device,
    Executable,
    Launch,
    Signature,
    SlotRef,
    Toolchain,
)
from pluggrad.device.discovery import Entry
from pluggrad.device.registry import REGISTRY
from pluggrad.dtypes import DType, Scalar
from pluggrad.kernel.cost import cost, estimate_us
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.kernel.numpy_ops import decode, encode, round_bfloat16
from pluggrad.kernel.tolerance import Kind
from pluggrad.lower import lower
from pluggrad.runtime.compilation import signature_of
from pluggrad.target import Capabilities, DeviceId, Target
from pluggrad.tensor import Tensor
from pluggrad.testing.conformance import mismatch
from pluggrad.tune import Phase, tune

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class LoadedKernel:
    """A kernel on the device, in phases; `args` of a phase number the kernel's buffers, then temporaries.

    work_us: estimated for all of it.
    """

    kernel: Kernel
    phases: tuple[tuple[Executable, Signature, tuple[int, ...]], ...]
    temporaries: tuple[BufferParam, ...]
    work_us: float = 0.0

    def commands(self, slots: Sequence[int], values: Sequence[int] | None = None) -> tuple[Launch, ...]:
        """Launches on these slots of a list (buffers, then temporaries) and positions of its values."""
        numbers = tuple(range(len(self.kernel.values)) if values is None else values)
        return tuple([Launch(executable, tuple([SlotRef(slots[arg]) for arg in args]), numbers,
                             signature.tasks, self.work_us, group=signature.group)
                      for executable, signature, args in self.phases])


class Subject:
    """One device, opened on first use. Memory that a test takes through it is given back after the test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alone = False  # tests are not to share kernels: one of those that did hangs or crashes
        self._taken: list[Allocation] = []

    # ---- what it declares ----------------------------------------------------------------------------------
    @cached_property
    def id(self) -> DeviceId:
        """The name, checked to exist."""
        return REGISTRY.resolve(self.name)

    @cached_property
    def entry(self) -> Entry:
        """The entry point of its plugin."""
        return REGISTRY.plugin(DeviceId.parse(self.name).type).entry

    @property
    def backend(self) -> Backend:
        """The plugin's backend."""
        return REGISTRY.backend(self.id.type)

    @property
    def hardware(self) -> DeviceId:
        """The name as the backend knows it: without a variant that an extension brings."""
        own = self.id.variant in self.backend.variants
        return self.id if own else self.id._replace(variant="")

    @property
    def target(self) -> Target:
        """What code is made for."""
        return REGISTRY.target(self.id)

    @property
    def capabilities(self) -> Capabilities:
        """What the device declares."""
        return self.target.capabilities

    @property
    def toolchain(self) -> Toolchain:
        """Renderer and compiler."""
        return REGISTRY.toolchain(self.id)

    # ---- the open device -----------------------------------------------------------------------------------
    @property
    def device(self) -> Device:
        """The open device, the same that tensors use."""
        return REGISTRY.open_device(self.id)

    @property
    def max_in_flight(self) -> int:
        """Lists that may be submitted before the first is waited for; 1 where `async` is not declared."""
        if "async" not in self.capabilities.features:
            return 1
        return int(self.device.max_in_flight)  # type: ignore[attr-defined]

    @property
    def allocator(self) -> Allocator:
        """Its memory."""
        return self.device.allocator

    def alloc(self, nbytes: int) -> Allocation:
        """Memory until the end of the test."""
        allocation = self.allocator.alloc(nbytes)
        self._taken.append(allocation)
        return allocation

    def free(self, allocation: Allocation) -> None:
        """Give memory from `alloc` back before the test ends."""
        self._taken = [other for other in self._taken if other is not allocation]
        self.allocator.free(allocation)

    def upload(self, array: Array) -> Allocation:
        """Memory that holds an array's bytes, in storage form, until the end of the test."""
        data = np.ascontiguousarray(array)
        allocation = self.alloc(data.nbytes)
        if data.nbytes:
            self.allocator.copyin(allocation, 0, data.reshape(-1).view(np.uint8).data)
        return allocation

    def download(self, allocation: Allocation, dtype: DType, size: int, offset: int = 0) -> Array:
        """`size` elements from `offset` bytes on, in storage form (bfloat16 as uint16)."""
        array = np.empty(size, dtype.numpy)
        if size:
            self.allocator.copyout(array.view(np.uint8).data, allocation, offset)
        return array

    def release(self) -> None:
        """Give back what a test took; called after each one."""
        taken, self._taken = self._taken, []
        for allocation in taken:
            self.allocator.free(allocation)

    # ---- kernels -------------------------------------------------------------------------------------------
    def load(self, kernel: Kernel, *, tuned: bool = True) -> LoadedKernel:
        """A kernel made callable: tuned as it would be for a program (or as it is), lowered, compiled."""
        if tuned:
            result = tune(kernel, self.capabilities)
            phases, temporaries = result.phases, result.temporaries
        else:
            phases, temporaries = (Phase(kernel, tuple(range(len(kernel.arguments)))),), ()
        signatures = [signature_of(phase.kernel, self.target) for phase in phases]
        sources = [self.toolchain.render(lower(phase.kernel, self.target)) for phase in phases]
        binaries = self.toolchain.compile_many(sources)
        loaded = [(self.device.load(binary, signature), signature, phase.args)
                  for binary, signature, phase in zip(binaries, signatures, phases, strict=True)]
        work_us = estimate_us(cost(kernel), self.capabilities)
        return LoadedKernel(kernel, tuple(loaded), temporaries, work_us)

    def run_binary(self, binary: bytes, kernel: Kernel, arrays: Sequence[Array],
                   values: Sequence[Scalar] = ()) -> list[Array]:
        """Run the binary of a tuned kernel once, as `run` does."""
        signature = signature_of(kernel, self.target)
        executable = self.device.load(binary, signature)
        phase = (executable, signature, tuple(range(len(kernel.arguments))))
        return self._run(LoadedKernel(kernel, (phase,), ()), arrays, values)

    def run(self, kernel: Kernel, arrays: Sequence[Array], values: Sequence[Scalar] = (), *,
            tuned: bool = True) -> list[Array]:
        """Run a kernel once on copies of 1-d arrays in storage form; every buffer as it is afterwards."""
        return self._run(self.load(kernel, tuned=tuned), arrays, values)

    def _run(self, loaded: LoadedKernel, arrays: Sequence[Array], values: Sequence[Scalar]) -> list[Array]:
        slots = [self.upload(array) for array in arrays]
        slots += [self.alloc(t.size * t.dtype.itemsize) for t in loaded.temporaries]
        self.device.submit(loaded.commands(range(len(slots))), slots, values).wait()
        return [self.download(slot, param.dtype, param.size)
                for slot, param in zip(slots, loaded.kernel.arguments, strict=False)]

    def reference(self, kernel: Kernel, arrays: Sequence[Array],
                  values: Sequence[Scalar] = ()) -> list[Array]:
        """What `run` should give: the interpreter's results, in storage form."""
        copies = [np.array(array) for array in arrays]
        interpret(kernel, copies, values)
        return copies

    # ---- tensors -------------------------------------------------------------------------------------------
    def tensor(self, values: Any, dtype: DType | str | None = None) -> Tensor:
        """A tensor on the device, of the values' own dtype if none is given."""
        array = np.asarray(values)
        return Tensor(array, dtype=dtypes.to_dtype(array.dtype if dtype is None else dtype), device=self.name)

    # ---- results -------------------------------------------------------------------------------------------
    def widening(self, dtype: DType) -> float:
        """The factor by which this device's results in `dtype` may lie further off than the table says."""
        return dict(self.capabilities.widening).get(dtype.name, 1.0)

    def expect(self, have: Any, want: Any, dtype: DType | str, kind: Kind = "exact", *, op: str = "",
               suggests: str = "") -> None:
        """Mismatch unless values (a tensor, or decoded values) agree within the tolerance of the dtype."""
        of = dtypes.to_dtype(dtype)
        found = have.numpy() if isinstance(have, Tensor) else have
        mismatch.expect_values(found, want, of, kind, op=op, widening=self.widening(of), suggests=suggests)

    def expect_within(self, have: Array, want: Array, bound: Array, dtype: DType, *, op: str = "") -> None:
        """Mismatch unless decoded values differ by no more than `bound`, an array, and what is declared."""
        mismatch.expect_within(have, want, bound * self.widening(dtype), dtype, op=op)


def stored(values: Any, dtype: DType) -> Array:
    """Values in storage form, rounded to the dtype (bfloat16 as uint16)."""
    if dtype is dtypes.bfloat16:
        return encode(round_bfloat16(np.asarray(values, np.float32)), dtype)
    return np.asarray(values).astype(dtype.numpy)


def decoded(array: Array, dtype: DType) -> Array:
    """Values from storage form (bfloat16 as float32)."""
    return decode(array, dtype)

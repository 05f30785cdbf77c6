"""A vendor's plugin as it should be: two devices with variant "s", of which the second does not open."""
from __future__ import annotations

from pluggrad.plugin_api import (
    Allocator,
    Backend,
    Capabilities,
    Device,
    DeviceUnavailable,
    KernelFault,
    Probe,
    Target,
    Toolchain,
    hookimpl,
)


class AcmeToolchain(Toolchain):
    def __init__(self, target: Target) -> None:
        self.target = target

    def render(self, program):
        return program.name

    def compile(self, source):
        return source.encode()


class AcmeAllocator(Allocator):
    def alloc(self, nbytes, kind="device"):
        return bytearray(nbytes)

    def free(self, allocation):
        allocation.clear()

    def copyin(self, allocation, offset, data):
        allocation[offset:offset + data.nbytes] = data.cast("B")

    def copyout(self, data, allocation, offset):
        data.cast("B")[:] = allocation[offset:offset + data.nbytes]


class AcmeDevice(Device):
    def __init__(self, target: Target) -> None:
        self.target, self.allocator, self.closed = target, AcmeAllocator(), False

    def load(self, binary, signature):
        raise KernelFault("acme runs nothing")

    def close(self):
        self.closed = True


class AcmeBackend(Backend):
    tier = 20
    variants = ("s",)

    def __init__(self) -> None:
        self.probes = 0

    def probe(self):
        self.probes += 1
        return Probe(2, names=("Acme One", "Acme Two"))

    def target(self, index, variant):
        names = frozenset({"float32", "int32"})
        return Target(f"acme-{index}{variant}", Capabilities(dtypes=names, arithmetic=names))

    def targets(self):
        return {"acme-9": Target("acme-9", self.target(0, "").capabilities)}

    def toolchain(self, target):
        return AcmeToolchain(target)

    def open(self, index, variant):
        if index == 1:
            raise DeviceUnavailable("acme:1 is used by another process")
        return AcmeDevice(self.target(index, variant))

    def describe(self):
        return "acme driver 7"


@hookimpl
def pluggrad_backend(api):
    return AcmeBackend()

"""Toolchain of an OpenCL device: OpenCL C in, the driver's program binary out."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import pyopencl as cl

from pluggrad.plugin_api import CompileError, Program, Target, Toolchain, merged, seal
from pluggrad_opencl import driver
from pluggrad_opencl.render import OpenCLRenderer
from pluggrad_opencl.target import find

_REVISION: Final = 3  # raise when other binaries are made of the same text
# division and square root as IEEE 754 rounds them, where the device can: elsewhere the option is refused
_EXACT_DIVISION: Final = "-cl-fp32-correctly-rounded-divide-sqrt"


class OpenCLToolchain(Toolchain):
    """Renders and compiles for `target`. It asks the driver for a context at the first kernel."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.cache_key = f"revision {_REVISION}, {target.arch}"
        self._context: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_context": None}  # a handle of the driver's stays in its process

    def render(self, program: Program) -> str:
        return OpenCLRenderer(self.target.capabilities.arithmetic).render(program)

    def compile(self, source: str) -> bytes:
        context = self._opened()
        device = context.devices[0]
        try:
            with warnings.catch_warnings():  # a log that says that all went well is no news
                warnings.simplefilter("ignore", cl.CompilerWarning)
                program = cl.Program(context, source).build(_options(device), devices=[device])
            return seal(bytes(program.get_info(cl.program_info.BINARIES)[0]))
        except cl.Error as error:
            raise _refused(source, str(error)) from error

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        """One binary with all the kernels, once for each source: every program has a cost of its own."""
        if len(sources) < 2:
            return [self.compile(source) for source in sources]
        try:
            return [self.compile(merged(sources))] * len(sources)
        except CompileError:
            return [self.compile(source) for source in sources]  # the error is then about one kernel

    def _opened(self) -> Any:
        if self._context is None:
            driver.fork_guard.check()
            device = find(self.target.arch)
            driver.processor_name(device)
            self._context = cl.Context([device])
        return self._context


def _options(device: cl.Device) -> list[str]:
    exact = cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT & device.single_fp_config
    return [_EXACT_DIVISION] if exact else []


def _refused(source: str, log: str) -> CompileError:
    first = next((line for line in log.splitlines() if "error" in line.lower()), "no reason given")
    return CompileError(f"the OpenCL driver refused a kernel: {first.strip()}", source=source, log=log)

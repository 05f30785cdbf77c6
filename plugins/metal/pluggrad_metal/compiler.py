"""Toolchain of a Metal device. Metal's compiler is a part of the driver, which gives nothing to keep.

So a binary is source with the version of its language, which the driver compiles where it is loaded; what it
makes of kernels is kept apart (pipelines.py). On a Mac source is compiled at once, so that errors come here.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pluggrad.plugin_api import CompileError, Program, Target, Toolchain, merged
from pluggrad_metal.binaries import Library, write
from pluggrad_metal.render import MetalRenderer
from pluggrad_metal.target import language_of

_REVISION: Final = 1  # raise when other binaries are made of the same text


class MetalToolchain(Toolchain):
    """Renders for `target`, on any machine."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.cache_key = f"revision {_REVISION}, {target.arch}"

    def render(self, program: Program) -> str:
        return MetalRenderer(self.target.capabilities.arithmetic).render(program)

    def compile(self, source: str) -> bytes:
        binary = write(Library(language_of(self.target.arch), source))
        try:
            from pluggrad_metal import libraries
        except ImportError:  # no Mac
            return binary
        libraries.check(binary, self.target.arch)
        return binary

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        """One binary with all the kernels, once for each source: a library has a cost of its own."""
        if len(sources) < 2:
            return [self.compile(source) for source in sources]
        try:
            return [self.compile(merged(sources))] * len(sources)
        except CompileError:
            return [self.compile(source) for source in sources]  # the error is then about one kernel

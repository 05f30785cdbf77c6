"""Toolchain of a Metal device. Metal's compiler is part of the system and compiles for an open device only.

So a binary is source with the version of its language, and the device compiles it when it is loaded.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from pluggrad.plugin_api import CompileError, KernelFault, Program, Target, Toolchain, seal, unseal
from pluggrad_metal.render import MetalRenderer
from pluggrad_metal.target import language_of

_REVISION: Final = 1  # raise when other binaries are made of the same text


class Library(NamedTuple):
    """What a binary holds: source text, and the version of the language that it is in."""

    language: tuple[int, int]
    source: str


class MetalToolchain(Toolchain):
    """Renders for `target`; opens nothing."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.cache_key = f"revision {_REVISION}, {target.arch}"

    def render(self, program: Program) -> str:
        return MetalRenderer(self.target.capabilities.arithmetic).render(program)

    def compile(self, source: str) -> bytes:
        major, minor = language_of(self.target.arch)
        return seal(f"metal{major}.{minor}\n{source}".encode())

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        """One binary with all the kernels, once for each source: a library has a cost of its own."""
        return [self.compile(merged(sources))] * len(sources)


def merged(sources: Sequence[str]) -> str:
    """One file. Sources are blocks between blank lines; what several use is the same block in each."""
    blocks = dict.fromkeys(block.strip("\n") for source in sources for block in source.split("\n\n"))
    return "\n\n".join(blocks) + "\n"


def read(binary: bytes) -> Library:
    """What is in a binary; KernelFault if it is damaged or none that `MetalToolchain` made."""
    head, _, source = unseal(binary).decode(errors="replace").partition("\n")
    try:
        language = language_of(f"|{head}")
    except ValueError as error:
        raise KernelFault(op="load", expected="a binary of the metal device",
                          got=f"one that begins with {head[:40]!r}") from error
    return Library(language, source)


def refused(source: str, log: str) -> CompileError:
    """The error for source that Metal's compiler does not take: its log, beside the lines that it counts."""
    first = next((line for line in log.splitlines() if "error" in line.lower()), "no reason given")
    numbered = "\n".join(f"{number:5d}  {line}" for number, line in enumerate(source.splitlines(), start=1))
    return CompileError(f"Metal's compiler refused a kernel: {first.strip()}", source=source,
                        log=f"{log}\n\n{numbered}")

"""Binaries of the metal device: source text, and the version of the language that it is in."""
from __future__ import annotations

from typing import NamedTuple

from pluggrad.plugin_api import CompileError, KernelFault, seal, unseal
from pluggrad_metal.target import language_of


class Library(NamedTuple):
    """What a binary holds: source text, and the version of the language that it is in."""

    language: tuple[int, int]
    source: str


def write(library: Library) -> bytes:
    """A library as bytes."""
    major, minor = library.language
    return seal(f"metal{major}.{minor}\n{library.source}".encode())


def read(binary: bytes) -> Library:
    """What is in a binary; KernelFault if it is damaged or none that `write` made."""
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

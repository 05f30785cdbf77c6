"""Every kernel that the conformance suite generates for a GPU, compiled for it.

Those of single operations, some thousands, are compiled quickly: what the compiler takes is the same, and it
leaves optimizations out. Those of whole programs are compiled as for users.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence

from pluggrad.plugin_api import CompileError
from pluggrad_cuda.compiler import CudaToolchain, merged
from pluggrad_cuda.resources import Resources
from pluggrad_cuda.target import KNOWN, target_of
from tests.shims.collection import sources

_TOGETHER = 40  # kernels of one program: what they share is read once
_QUICKLY = "--Ofast-compile=max"


def compiled(architecture: str, part: str) -> dict[str, Resources]:
    """What the kernels of a part of the suite take, by name; AssertionError with the logs of refused ones."""
    toolchain = CudaToolchain(target_of(KNOWN[architecture]))
    if part != "programs":
        toolchain.options += (_QUICKLY,)
    found: dict[str, Resources] = {}
    refused: list[str] = []
    for batch in _batches(sources(architecture, part)):
        try:
            found |= toolchain.resources(merged(batch))
        except CompileError as error:
            refused += _refused(toolchain, batch) or [f"only together: {error}"]
    assert refused == []
    return found


def spilled(found: dict[str, Resources]) -> list[str]:
    """The kernels that have not registers enough."""
    return [name for name, taken in found.items() if taken.spilled_bytes]


def _batches(found: Sequence[str]) -> Iterator[Sequence[str]]:
    return (found[i:i + _TOGETHER] for i in range(0, len(found), _TOGETHER))


def _refused(toolchain: CudaToolchain, batch: Sequence[str]) -> list[str]:
    """The log of each kernel that is refused by itself; it ends with the numbered source."""
    logs = []
    for source in batch:
        try:
            toolchain.compile(source)
        except CompileError as error:
            logs.append(error.log)
    return logs

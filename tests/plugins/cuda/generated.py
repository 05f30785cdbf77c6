"""Every kernel that the conformance suite generates for a GPU, compiled for it.

Those of single operations, some thousands, are compiled quickly: what the compiler takes is the same, and it
leaves optimizations out. Those of whole programs are compiled as for users.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import pytest

from pluggrad.plugin_api import CompileError, DeviceUnavailable, merged
from pluggrad_cuda import nvrtc
from pluggrad_cuda.compiler import CudaToolchain
from pluggrad_cuda.resources import Resources
from pluggrad_cuda.target import KNOWN, target_of
from tests.shims.collection import sources

_TOGETHER = 40  # kernels of one program: what they share is read once
_QUICKLY = "--Ofast-compile=max"


def skip_without_compiler() -> None:
    """Skip the module that calls this where kernels cannot be compiled, or not be collected."""
    try:
        nvrtc.library()
    except DeviceUnavailable as error:
        pytest.skip(f"needs NVRTC: {error}", allow_module_level=True)
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux: kernels are collected there", allow_module_level=True)


def check_part(architecture: str, part: str) -> None:
    """The compiler takes every kernel of a part of the suite, and keeps those of programs in registers."""
    found = _compiled(architecture, part)
    assert len(found) > (20 if part == "launches" else 500), len(found)
    spilled = [name for name, taken in found.items() if taken.spilled_bytes]
    assert part != "programs" or not spilled, spilled


def _compiled(architecture: str, part: str) -> dict[str, Resources]:
    """What its kernels take, by name; AssertionError with the logs of refused ones."""
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
    assert not refused, refused
    return found


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

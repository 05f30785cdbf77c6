"""Languages of GPUs that are C++ to a shim: how generated source becomes a file that a C++ compiler takes."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pluggrad.lower.program import Program
from pluggrad.target import Target


@dataclass(frozen=True)
class Language:
    """How one GPU language is read.

    header: the shim, which stands before the kernels. kernel: finds the `name` of a kernel and the text of
    its `parameters`. arguments: for these, in order, the addresses of their values as C++; `given` is what a
    launch is given. packed: run-time values are one buffer behind the others, not parameters of their own.
    render: the plugin's. plain: rewrites what no macro can make C++ of.
    """

    header: str
    kernel: re.Pattern[str]
    arguments: Callable[[Sequence[str]], Sequence[str]]
    packed: bool
    render: Callable[[Program, Target], str]
    plain: Callable[[str], str] = str


@dataclass(frozen=True)
class Architecture:
    """A GPU that kernels are made for, described without one."""

    language: Language
    target: Target


_FOREIGN: Final = re.compile(r"\basm\b|\bextern __shared__")


def merged(language: Language, sources: Iterable[str]) -> str:
    """One C++ file of kernels, each behind a function `launch_NAME` that C can call.

    Sources are blocks between empty lines. What several use is the same block in each, and stands here once.
    A block of what C++ lacks, as inline assembly, is left out: the shim has functions of the same names.
    """
    blocks = dict.fromkeys(block.strip("\n") for source in sources for block in source.split("\n\n")
                           if not _FOREIGN.search(block))
    plain = dict.fromkeys(language.plain(block) for block in blocks)
    entries = [_entry(language, match) for block in blocks for match in language.kernel.finditer(block)]
    return "\n\n".join([f'#include "{language.header}"', *plain, *entries]) + "\n"


def _entry(language: Language, match: re.Match[str]) -> str:
    parameters = [text.strip() for text in match["parameters"].split(",")]
    return (f'extern "C" const char *launch_{match["name"]}(void **given, unsigned grid, unsigned group, '
            f"unsigned bytes, unsigned order) {{\n"
            f"    void *values[] = {{{', '.join(language.arguments(parameters))}}};\n"
            f"    return simt::launch({match['name']}, values, grid, group, bytes, order);\n}}")


# ------------------------------------------------------------------------------------------------- CUDA


def _cuda_arguments(parameters: Sequence[str]) -> Sequence[str]:
    return [f"given[{i}]" for i in range(len(parameters))]


def _cuda_source(program: Program, target: Target) -> str:
    from pluggrad_cuda.architecture import Architecture as Cuda
    from pluggrad_cuda.render import CudaRenderer

    return CudaRenderer(target.capabilities.arithmetic, Cuda.parse(target.arch).capability).render(program)


CUDA: Final = Language(
    "cuda.h", re.compile(r'extern "C" __global__[^\n]*\s+void (?P<name>\w+)\((?P<parameters>[^)]*)\)'),
    _cuda_arguments, packed=False, render=_cuda_source)


def _cuda(arch: str) -> Architecture:
    from pluggrad_cuda.target import KNOWN, target_of

    return Architecture(CUDA, target_of(KNOWN[arch]))


# ------------------------------------------------------------------------------------------------ Metal


_METAL_VALUES: Final = {"threadgroup_position_in_grid": "&simt::block_index.x",
                        "thread_index_in_threadgroup": "&simt::current"}
_ATTRIBUTE: Final = re.compile(r"\[\[(?P<name>\w+)(\((?P<number>\d+)\))?\]\]")
_OF_GROUP: Final = re.compile(r"^(\s+)threadgroup (?=[\w ]+\[)", re.MULTILINE)


def _metal_arguments(parameters: Sequence[str]) -> Sequence[str]:
    found = [_ATTRIBUTE.search(parameter) for parameter in parameters]
    return [f"given[{match['number']}]" if match["name"] == "buffer" else _METAL_VALUES[match["name"]]
            for match in found if match is not None]


def _metal_plain(block: str) -> str:
    """Memory of a group is static. Functions for it are left out: those for other memory stand before them,
    and want rows that are aligned, which a vector's access to either kind then checks."""
    head = block.partition("\n")[0]
    return "" if "(threadgroup " in head else _OF_GROUP.sub(r"\1alignas(16) static ", block)


def _metal_source(program: Program, target: Target) -> str:
    from pluggrad_metal.render import render

    return render(program, target)


METAL: Final = Language(
    "metal_stdlib", re.compile(r"\[\[kernel[^\n]*\s+void (?P<name>\w+)\((?P<parameters>[^{]*)\) {"),
    _metal_arguments, packed=True, render=_metal_source, plain=_metal_plain)


def _apple(name: str, family: int, language: tuple[int, int]) -> Architecture:
    from pluggrad_metal.target import Gpu, target_of

    gpu = Gpu(name, family, language, unified=True, working_set=8 << 30, max_buffer=4 << 30)
    return Architecture(METAL, target_of(gpu))


# ------------------------------------------------------------------------------------------------ by name

_ARCHITECTURES: Final[dict[str, Callable[[], Architecture]]] = {
    "sm_80": lambda: _cuda("sm_80"), "sm_90a": lambda: _cuda("sm_90a"),
    # without bfloat in the language, and with it
    "apple7": lambda: _apple("Apple M1", 7, (3, 0)), "apple9": lambda: _apple("Apple M3 Pro", 9, (3, 2))}


def architecture(name: str) -> Architecture:
    """A GPU by the name that it has here."""
    return _ARCHITECTURES[name]()

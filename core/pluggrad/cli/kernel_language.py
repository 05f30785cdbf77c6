"""`python -m pluggrad kernel-language`: what a renderer receives, as a page of Markdown."""
from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Final

from pluggrad.cli.stages import run_stages, verify_stage
from pluggrad.device.versions import API_MAJOR, API_MINOR
from pluggrad.ir.passes import Trace
from pluggrad.lower import program
from pluggrad.lower.instructions import ARITHMETIC, STRUCTURE, Instruction
from pluggrad.lower.text import program_text
from pluggrad.runtime.normalize import normalize
from pluggrad.target import Capabilities, Target
from pluggrad.tensor import Tensor

_KINDS: Final = {
    "biuf": "any", "biu": "integers, bool", "iuf": "numbers", "iu": "integers", "f": "floats", "b": "bool",
    "i": "int64", "u": "pairs in uint32", "": ""}
_DTYPES: Final = frozenset({"float32", "int64", "bool"})


def main(arguments: Sequence[str]) -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(prog="python -m pluggrad kernel-language", description=__doc__)
    parser.parse_args(arguments)
    print(page())
    return 0


def page() -> str:
    """The whole page, made from the tables that `lower` checks programs with."""
    return "\n".join([*_head(), *_table(STRUCTURE), "", *_arithmetic(), "", *_example(), "", *_versions()])


def _head() -> Iterator[str]:
    title, _, text = inspect.cleandoc(program.__doc__ or "").partition("\n\n")
    yield f"# The kernel language, version {API_MAJOR}.{API_MINOR}"
    yield ""
    yield "<!-- python -m pluggrad kernel-language > docs/kernel-language.md -->"
    yield ""
    yield title
    yield ""
    yield text
    yield ""
    yield "## Structure, memory and registers"
    yield ""


def _table(rows: Sequence[Instruction]) -> Iterator[str]:
    yield "| instruction | sources | of | gives | meaning | since |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        sources = " or ".join(map(str, row.sources))
        gives = {"any": "its dtype", "same": "the same", "": "no value"}.get(row.result, row.result)
        meaning = re.sub(r"[|*]", r"\\\g<0>", row.meaning)
        yield (f"| {row.name} | {sources} | {_KINDS[row.kinds]} | {gives} | {meaning} "
               f"| {API_MAJOR}.{row.since} |")


def _arithmetic() -> Iterator[str]:
    yield "## Arithmetic"
    yield ""
    yield "Always: a renderer implements all of these."
    yield ""
    yield from _table([row for row in ARITHMETIC if not row.optional])
    yield ""
    yield "Where `Capabilities.ops` names them; else they arrive written in the ones above, or not at all:"
    yield ""
    yield from _table([row for row in ARITHMETIC if row.optional])


def _example() -> Iterator[str]:
    yield "## An example"
    yield ""
    yield "`(x * 0.3).exp().sum(1)` of a float32 `x` of 4 by 6, for a device that has no vectors and no EXP:"
    yield ""
    yield "```"
    yield _example_program()
    yield "```"


def _example_program() -> str:
    x = Tensor.empty(4, 6, device="ref").realize()
    target = Target("scalar", Capabilities(dtypes=_DTYPES, arithmetic=_DTYPES))
    stages = run_stages(normalize([(x * 0.3).exp().sum(1).node]), (None,), target, Trace(verify=verify_stage))
    return program_text(stages.programs[0])


def _versions() -> Iterator[str]:
    yield "## Versions"
    yield ""
    yield inspect.cleandoc("""
        The language carries the version of the plugin API. Within a major version an instruction keeps its
        meaning and none is taken away. One that is added to the arithmetic comes with a way to write it in
        older ones, and reaches only renderers that name it; one that is added to the structure reaches only
        devices that declare what it is for.""")

"""Rendered Metal: golden text for each feature of the language, and rules that every kernel keeps."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from pluggrad import dtypes
from pluggrad.lower import lower
from pluggrad.lower.program import Program
from pluggrad.tune.heuristics import tune_kernel
from pluggrad_metal.render import MetalRenderer
from pluggrad_metal.target import M1, M3_MAX, target_of
from tests.elementwise_cases import Batch, Case, cases
from tests.matrix_products import MatrixProduct
from tests.program_cases import CASES, GROUPS

F16, BF16, F32, U8 = dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.uint8
BATCH = 10  # cases: more would take more than 31 buffers
RENDERERS = {gpu.name: MetalRenderer(target_of(gpu).capabilities.arithmetic) for gpu in (M1, M3_MAX)}


def text(program: Program, name: str, gpu: str = M3_MAX.name) -> str:
    return RENDERERS[gpu].render(replace(program, name=name))


MATH = Batch(tuple(Case(op, (dtype,), dtype) for op in ("EXP", "ERF", "FLOOR") for dtype in (F32, F16)))
CONVERSIONS = Batch((Case("MAX", (F32, F32), F32), Case("LE", (F32, F32), dtypes.bool_),
                     Case("CAST", (F32,), U8), Case("BITCAST", (F32,), dtypes.int32)))
BFLOATS = Batch((Case("CAST", (BF16,), F32), Case("CAST", (F32,), BF16)))


def matrices() -> Program:
    target = target_of(M3_MAX)
    (kernel,) = tune_kernel(MatrixProduct(128, 128, 128, F16).kernel(), target.capabilities)
    return lower(kernel, target)


GOLDEN: dict[str, Callable[[], Program]] = {
    "tiles": lambda: CASES["matmul"]().program,
    "gated": lambda: CASES["strided float16 lanes"]().program,
    "gathered": lambda: CASES["gathered float32 gated"]().program,
    "values-half": lambda: CASES["scalars float16 -0.0 1.5"]().program,
    "values-long": lambda: CASES["scalars int64 -9223372036854775808 9223372036854775807"]().program,
    "group": lambda: GROUPS["grouped MAX float32 x2 by 100"]().program,
    "simdgroup": lambda: GROUPS["grouped MIN uint64 x0 by 32"]().program,
    "conversions": lambda: CONVERSIONS.program(4),
    "functions": lambda: MATH.program(4),
    "bfloat": lambda: BFLOATS.program(4),
    "matrices": lambda: matrices(),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_text(name: str, golden: Callable[..., None]) -> None:
    golden(text(GOLDEN[name](), "golden"), stage="metal", name=name)


def test_bfloat_as_bits_where_the_language_lacks_it(golden: Callable[..., None]) -> None:
    golden(text(BFLOATS.program(4), "golden", M1.name), stage="metal")


@cache
def kernels() -> dict[str, str]:
    """Text of every instruction and op at every dtype that Metal has."""
    computed = (F32, F16, BF16)
    programs = {name: make().program for name, make in (CASES | GROUPS).items()}
    single = [case for case in cases(computed) if dtypes.float64 not in (*case.sources, case.result)]
    for lanes in (0, 6):
        for start in range(0, len(single), BATCH):
            batch = Batch(tuple(single[start:start + BATCH]))
            programs[f"{single[start]} and on, x{lanes}"] = batch.program(lanes)
    return {name: text(program, "k") for name, program in programs.items() if not has_double(program)}


def has_double(program: Program) -> bool:
    used = {buffer.dtype for buffer in program.buffers} | set(program.values)
    return dtypes.float64 in used | {instr.dtype for instr in program.body}


def test_every_kernel_is_of_the_language() -> None:
    found = kernels()
    assert len(found) > 60
    for name, source in found.items():
        for wrong in (r"\bdouble\b", r"_t\b", r"\brestrict\b", r"memcpy", r"\bunsigned\b", r"__", r"fast::"):
            assert not re.search(wrong, source), f"{name} has {wrong}:\n{source}"


def test_arguments_are_numbered_without_a_gap() -> None:
    for name, source in kernels().items():
        numbers = [int(number) for number in re.findall(r"\[\[buffer\((\d+)\)\]\]", source)]
        assert numbers == list(range(len(numbers))), name


def test_vectors_are_of_widths_that_the_language_has() -> None:
    kinds = "char|uchar|short|ushort|int|uint|long|ulong|half|bfloat|float"
    for name, source in kernels().items():
        widths = set(re.findall(rf"\b(?:packed_)?(?:{kinds})(\d+)\b", source))
        assert widths <= {"2", "4"}, name


def test_bools_are_bytes_in_memory() -> None:
    source = text(CASES["strided bool open"]().program, "bools")
    assert "device const uchar *b0" in source
    assert "bool *" not in source

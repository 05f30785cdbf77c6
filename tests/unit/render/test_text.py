"""The text of rendered kernels: golden for a few, and what each line of them is there for."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

import pytest

from pluggrad import dtypes
from pluggrad.errors import CompileError
from pluggrad.plugin_api import CLikeRenderer, CVectorRenderer, merged
from pluggrad.render.source import Value
from tests.elementwise_cases import Batch, Case
from tests.program_builder import ProgramBuilder
from tests.program_cases import grouped, matmul, strided

F32, I64 = dtypes.float32, dtypes.int64
WIDE = ("float32", "float64")
RENDERERS = {"scalar": CLikeRenderer(WIDE), "vector": CVectorRenderer(WIDE)}


def elementwise(op: str, *sources: dtypes.DType, result: dtypes.DType | None = None) -> str:
    case = Case(op, sources, result or sources[0])
    return RENDERERS["scalar"].render(Batch((case,)).program(0))


@pytest.mark.parametrize("renderer", RENDERERS)
def test_matmul(renderer: str, golden: Callable[..., None]) -> None:
    case = matmul(n=8, rows=2, columns=1, lanes=4)
    golden(RENDERERS[renderer].render(replace(case.program, name="matmul")), stage="render", name=renderer)


def test_gates(golden: Callable[..., None]) -> None:
    program = strided(F32, "lanes").program
    stores = [i for i, instr in enumerate(program.body) if instr.op == "STORE"]
    short = replace(program, name="gated", body=program.body[:stores[0] + 1], buffers=program.buffers[:2])
    golden(RENDERERS["vector"].render(short), stage="render")


def test_half_formats_are_converted_on_their_bits(golden: Callable[..., None]) -> None:
    program = Batch((Case("CAST", (dtypes.float16,), dtypes.bfloat16),)).program(0)
    golden(RENDERERS["scalar"].render(replace(program, name="halves")), stage="render")


def test_a_product_and_its_sum_are_one_expression() -> None:
    text = RENDERERS["scalar"].render(matmul(n=8, rows=1, columns=1, lanes=1).program)
    assert "acc9 = acc9 + (v12 * v16);" in text


def test_a_call_with_two_users_is_computed_once() -> None:
    p = ProgramBuilder("calls")
    x, out = p.buffer(F32, 2), p.buffer(F32, 2, "out")
    exponential = p("EXP", F32, p.load(x, p.const(0)))
    p.store(out, p.const(0), exponential)
    p.store(out, p.const(1), p("MUL", F32, exponential, exponential))
    assert RENDERERS["scalar"].render(p.build()).count("expf(") == 1


def test_integers_wrap_without_signed_overflow() -> None:
    assert "(int32_t)((uint32_t)v3 + (uint32_t)v4)" in elementwise("ADD", dtypes.int32, dtypes.int32)
    # a product of two 16-bit numbers is computed in int, which it may overflow
    assert "(uint16_t)((uint32_t)v3 * (uint32_t)v4)" in elementwise("MUL", dtypes.uint16, dtypes.uint16)


def test_addresses_that_cannot_overflow_are_plain() -> None:
    text = RENDERERS["scalar"].render(matmul().program)
    assert "uint64_t" not in text


def test_only_functions_that_are_used_stand_before_a_kernel() -> None:
    assert "float16" not in elementwise("ADD", F32, F32)
    assert elementwise("CAST", F32, result=dtypes.int8).count("static inline") == 1


def test_numbers_that_c_has_no_plain_literal_for() -> None:
    p = ProgramBuilder("numbers")
    expected = {
        (float("nan"), F32): "NAN", (float("-inf"), F32): "-INFINITY", (-0.0, F32): "-0.0f",
        (0.1, F32): "0.100000001f", (1e-7, F32): "1.00000001e-07f",
        (float("inf"), dtypes.float64): "((double)INFINITY)", (I64.min, I64): "(-9223372036854775807 - 1)",
        (dtypes.uint64.max, dtypes.uint64): "18446744073709551615u", (3, dtypes.uint64): "(uint64_t)3u",
        (1.0, dtypes.float16): "15360u",
    }
    for value, dtype in expected:
        p.store(p.buffer(dtype, 1, "out"), p.const(0), p.const(value, dtype))
    lines = RENDERERS["scalar"].render(p.build()).splitlines()
    written = [line.partition(" = ")[2] for line in lines if line.strip().startswith("b")]
    assert written == [f"{text};" for text in expected.values()]


def test_a_language_without_groups_refuses_them() -> None:
    with pytest.raises(CompileError, match="32 work items"):
        RENDERERS["scalar"].render(grouped(F32, "ADD", 32, 0).program)


def test_a_renderer_of_ones_own_is_a_few_table_entries() -> None:
    class Terse(CLikeRenderer):
        types: ClassVar[Mapping[str, str]] = CLikeRenderer.types | {"float32": "f32"}
        functions: ClassVar[Mapping[str, Mapping[str, str]]] = CLikeRenderer.functions | {
            "EXP": {"float32": "my_exp"}}
        preamble: ClassVar[str] = '#include "terse.h"'

    program = Batch((Case("EXP", (F32,), F32),)).program(0)
    text = Terse(["float32"]).render(program)
    assert text.startswith('#include "terse.h"\n')
    assert "f32 *restrict const b1" in text
    assert "my_exp(" in text


def test_what_is_named_is_free_to_repeat() -> None:
    value = Value("x + 1", I64, form="operation")
    assert (str(value), str(value.named("v1"))) == ("(x + 1)", "v1")


def test_a_block_that_two_sources_share_stands_once():
    helper = "float twice(float x) { return 2 * x; }"
    text = merged([f"{helper}\n\nkernel one\n", f"{helper}\n\nkernel two\n"])
    assert text == f"{helper}\n\nkernel one\n\nkernel two\n"

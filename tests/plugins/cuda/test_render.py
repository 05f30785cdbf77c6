"""Rendered CUDA C++: golden text for each feature of the language, and rules that every kernel keeps."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from pluggrad import dtypes
from pluggrad.lower.program import Program
from pluggrad_cuda import prelude
from pluggrad_cuda.architecture import MAX_BLOCKS, grid
from pluggrad_cuda.render import CudaRenderer
from pluggrad_cuda.target import A100, target_of
from tests.elementwise_cases import Batch, Case
from tests.program_builder import ProgramBuilder
from tests.program_cases import CASES, GROUPS

F16, BF16, F32, F64, I64 = dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64, dtypes.int64
RENDERER = CudaRenderer(target_of(A100).capabilities.arithmetic, A100.capability)
OLDER = CudaRenderer(RENDERER.arithmetic, 75)
PIECES = sorted(path.stem for path in prelude.FOLDER.glob("*.cuh"))


def kernel_of(source: str) -> str:
    """A source from its kernel on, without the pieces."""
    return source[source.index('extern "C"'):]


def text(program: Program, renderer: CudaRenderer = RENDERER) -> str:
    return kernel_of(renderer.render(replace(program, name="golden")))


def cast(source: dtypes.DType, target: dtypes.DType) -> Program:
    return Batch((Case("CAST", (source,), target),)).program(4)


GOLDEN: dict[str, Callable[[], Program]] = {
    "tiles": lambda: CASES["matmul"]().program,
    "gathered": lambda: CASES["gathered float32 gated"]().program,
    "values": lambda: CASES["scalars float64 nan 0.1"]().program,
    "values-half": lambda: CASES["scalars float16 -0.0 1.5"]().program,
    "masks": lambda: CASES["masks"]().program,
    "memory-of-a-task": lambda: CASES["local memory bfloat16"]().program,
    "memory-of-a-group": lambda: GROUPS["exchanged bfloat16 by 32"]().program,
    "group-of-a-warp": lambda: GROUPS["grouped MIN uint64 x0 by 32"]().program,
    "group-of-warps": lambda: GROUPS["grouped ADD float32 x4 by 256"]().program,
    "group-of-no-warps": lambda: GROUPS["grouped MAX float32 x2 by 100"]().program,
    "functions": lambda: Batch(tuple(Case(op, (d,), d) for op in ("EXP", "ERF", "ROUND")
                                     for d in (F32, F64))).program(4),
    "conversions": lambda: Batch((
        Case("CAST", (F32,), dtypes.uint8), Case("BITCAST", (F32,), dtypes.int32),
        Case("LE", (F32, F32), dtypes.bool_), Case("MAX", (F32, F32), F32))).program(4),
    "halves": lambda: Batch((Case("CAST", (F16,), F32), Case("CAST", (F64,), F16), Case("CAST", (F16,), BF16),
                             Case("CAST", (I64,), BF16))).program(4),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_text(name: str, golden: Callable[..., None]) -> None:
    golden(text(GOLDEN[name]()), stage="cuda", name=name)


def test_what_one_access_moves_follows_from_what_the_index_is_a_multiple_of() -> None:
    p = ProgramBuilder("aligned", tasks=8)
    x, halves, out = p.buffer(F32, 1000), p.buffer(F16, 1000), p.buffer(F32, 1000, "out")
    lane, task = p.axis(8, vector=True), p("TASK", I64)
    for buffer, offset in ((x, 0), (x, 2), (x, 3), (halves, 0)):
        index = p("ADD", I64, p("MUL", I64, task, p.const(24)), p.const(offset))
        value = p.load(buffer, index, ((lane, 1),))
        p.store(out, index, value if buffer == x else p("CAST", F32, value), ((lane, 1),))
    found = re.findall(r"= (load_row<\d+, \d+>)\(b(\d)", text(p.build()))
    assert found == [("load_row<8, 4>", "0"), ("load_row<8, 2>", "0"), ("load_row<8, 1>", "0"),
                     ("load_row<8, 8>", "1")]


def test_bfloat16_is_rounded_by_hardware_where_there_is_some() -> None:
    program = cast(F32, BF16)
    assert "asm(\"cvt.rn.bf16.f32" in RENDERER.render(program)
    assert "asm(" not in OLDER.render(program)
    assert "asm(\"cvt.f32.f16" in OLDER.render(cast(F16, F32))


def test_more_tasks_than_blocks_along_x_make_rows_of_blocks() -> None:
    p = ProgramBuilder("many", tasks=3 * MAX_BLOCKS - 1)
    p.store(p.buffer(F32, 1, "out"), p.const(0), p.const(1.0, F32))
    made = text(p.build())
    assert "task = (long long)blockIdx.y * gridDim.x + blockIdx.x;" in made
    assert f"if (task >= {3 * MAX_BLOCKS - 1}) return;" in made
    assert grid(3 * MAX_BLOCKS - 1) == (MAX_BLOCKS, 3)
    assert grid(MAX_BLOCKS) == (MAX_BLOCKS, 1)
    assert grid(1) == (1, 1)


def test_the_launch_bound_is_the_group() -> None:
    assert "__launch_bounds__(256)" in text(GROUPS["grouped ADD float32 x4 by 256"]().program)
    assert "__launch_bounds__(1)" in text(CASES["matmul"]().program)


@pytest.mark.parametrize("name", PIECES)
def test_only_native_pieces_hold_what_other_compilers_lack(name: str) -> None:
    foreign = re.search(r"\basm\b|_sync\(|\bextern\b", prelude.piece(name)) is not None
    assert foreign == (name in prelude.NATIVE)


def test_pieces_are_blocks_without_empty_lines() -> None:
    source = RENDERER.render(GROUPS["grouped ADD float32 x4 by 256"]().program)
    blocks = source.strip("\n").split("\n\n")
    assert [block for block in blocks if not block.strip()] == []
    for name in ("lanes", "rows", "exchange", "lanes_exchange"):
        assert prelude.piece(name) in blocks
    assert blocks.index(prelude.piece("lanes")) < blocks.index(prelude.piece("rows"))


def test_no_fast_math() -> None:
    sources = [RENDERER.render(make().program) for make in CASES.values()]
    sources.append(RENDERER.render(GOLDEN["functions"]()))
    assert not any(re.search(r"__(exp|log|sin|cos|pow|fdividef)", source) for source in sources)

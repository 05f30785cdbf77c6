"""Rendered C, compiled and run beside the interpreter: every op, every dtype, every form of instructions."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.plugin_api import CLikeRenderer, CVectorRenderer
from tests.elementwise_cases import batches
from tests.program_cases import CASES, matmul
from tests.unit.render.compiled import COMPILER, call, compile_c, compiles

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler: cc is not on the PATH")

WIDE = (dtypes.float32, dtypes.float64)
HALF = (dtypes.float16, *WIDE)
needs_half = pytest.mark.skipif(not compiles("_Float16 x;"), reason="this C compiler has no _Float16")
RENDERERS = {"scalar": CLikeRenderer, "vector": CVectorRenderer}


def names(arithmetic: tuple[dtypes.DType, ...]) -> list[str]:
    return [dtype.name for dtype in arithmetic]


@pytest.mark.parametrize(("renderer", "lanes", "arithmetic"), [
    pytest.param(CLikeRenderer, 0, WIDE, id="scalar"),
    pytest.param(CLikeRenderer, 3, WIDE, id="scalar, lanes one by one"),
    pytest.param(CVectorRenderer, 16, WIDE, id="vectors"),
    pytest.param(CVectorRenderer, 6, WIDE, id="vectors of two widths"),
    pytest.param(CLikeRenderer, 0, HALF, id="scalar, halves computed in", marks=needs_half),
])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_op_at_every_dtype(renderer: type[CLikeRenderer], lanes: int,
                                 arithmetic: tuple[dtypes.DType, ...], tmp_path: Path) -> None:
    everything = batches(arithmetic)
    programs = [batch.program(lanes) for batch in everything]
    library = compile_c([renderer(names(arithmetic)).render(program) for program in programs], tmp_path)
    for batch, program in zip(everything, programs, strict=True):
        arrays = batch.arrays()
        call(library, program, arrays)
        batch.check(arrays)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_every_form_of_an_instruction(renderer: str, tmp_path: Path) -> None:
    cases = {name: make() for name, make in CASES.items()}
    rendered = [RENDERERS[renderer](names(WIDE)).render(case.program) for case in cases.values()]
    library = compile_c(rendered, tmp_path)
    for name, case in cases.items():
        arrays = case.inputs()
        call(library, case.program, arrays, case.values)
        try:
            case.check(arrays)
        except AssertionError as error:
            raise AssertionError(name) from error


def test_only_the_tasks_asked_for_run(tmp_path: Path) -> None:
    case = matmul()
    library = compile_c([CLikeRenderer(names(WIDE)).render(case.program)], tmp_path)
    (x, y, out), (*_, want) = case.inputs(), case.expected()
    call(library, case.program, [x, y, out], tasks=(2, 4))
    written = np.flatnonzero(out)
    assert written.size == 2 * 4 * 16
    np.testing.assert_allclose(out[written], want[written], rtol=1e-5)

"""Products by matrix units on the CPU: fragments, descriptors, blocks as the vendors' documents have them."""
from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.config import Context
from pluggrad.kernel.kernel import Kernel
from pluggrad.lower import lower
from pluggrad.lower.program import Program
from pluggrad.tune.heuristics import tune_kernel
from tests.matrix_products import (
    Convolution,
    MatrixProduct,
    arguments,
    by_heads,
    expected,
    kernels_of,
    leaf,
)
from tests.shims.languages import architecture
from tests.shims.libraries import Libraries
from tests.shims.maps import encoded

F16, BF16, F32 = dtypes.float16, dtypes.bfloat16, dtypes.float32
PRODUCTS = [
    MatrixProduct(128, 128, 128, F16), MatrixProduct(170, 104, 150, F16, (True, True), out=F16),
    MatrixProduct(129, 165, 67, BF16, (False, True)), MatrixProduct(96, 72, 80, BF16, (True, False), stack=3),
    MatrixProduct(64, 132, 180, F32), MatrixProduct(96, 128, 128, F32, (True, True))]
# what lies as boxes do: either side turned, odd rows and columns, short last steps, stacks
BOXED = [
    MatrixProduct(161, 232, 136, F16, out=F16), MatrixProduct(168, 264, 147, BF16, (True, True)),
    MatrixProduct(49, 1000, 131, BF16, (False, True)), MatrixProduct(30, 184, 264, BF16),
    MatrixProduct(192, 120, 320, F16, (True, False), stack=2)]
CONVOLUTIONS = [
    *[Convolution(of, BF16, 2, 32, 48, (12, 10), (3, 3), padding=1) for of in "yxw"],
    *[Convolution(of, F16, 4, 20, 36, (13, 7), (3, 2), stride=1 + (of == "y")) for of in "yxw"],
    *[Convolution(of, F16, 2, 64, 64, (8, 8), (3, 3), padding=2, dilation=2, groups=2) for of in "yxw"]]
FEW_CORES = 1  # so that blocks are large
HELPERS = {"sm_80": "multiply_by_warps", "sm_90a": "multiply_by_groups", "apple9": "multiply_blocks"}


def scheduled(untuned: Kernel, arch: str) -> Kernel:
    capabilities = replace(architecture(arch).target.capabilities, cores=FEW_CORES)
    with Context(MATMUL_PRECISION="tf32"):
        kernels = tune_kernel(untuned, capabilities)
    (kernel,) = [kernel for kernel in kernels if any(axis.kind == "MATRIX" for axis in kernel.axes)]
    return kernel


def run(libraries: Libraries, source: str, program: Program, arrays: Sequence[np.ndarray]) -> None:
    """One launch on arrays that it changes in place."""
    assert launched(libraries, source, program, arrays) is None


def launched(libraries: Libraries, source: str, program: Program, arrays: Sequence[np.ndarray]) -> str | None:
    """The same; what goes wrong."""
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    maps = encoded(program.boxes, program.buffers, [array.ctypes.data for array in arrays])
    given = (ctypes.c_void_p * (len(arrays) + len(maps)))(*map(ctypes.addressof, [*addresses, *maps]))
    error = libraries.function(source)(given, program.tasks, program.group, program.kernel.local_bytes, 1)
    return error and error.decode()


@pytest.mark.parametrize("arch", HELPERS)
def test_products_are_exact(arch: str, tmp_path: Path) -> None:
    of = architecture(arch)
    untuned = [product.kernel() for product in (*PRODUCTS, *BOXED)]
    untuned += [convolution.kernels()[-1] for convolution in CONVOLUTIONS]
    untuned += kernels_of(by_heads(leaf(BF16, 3, 72, 2, 72), leaf(BF16, 3, 72, 2, 72)))
    programs = [lower(scheduled(kernel, arch), of.target) for kernel in untuned]
    sources = [of.language.render(program, of.target) for program in programs]
    assert {name for name in HELPERS.values() if any(name in source for source in sources)} >= {HELPERS[arch]}
    libraries = Libraries(of.language, tmp_path)
    libraries.add(sources)
    for kernel, program, source in zip(untuned, programs, sources, strict=True):
        arrays = arguments(program.kernel)
        alone = program.kernel.arguments == kernel.arguments
        want = expected(kernel if alone else program.kernel, arrays)
        run(libraries, source, program, arrays)
        np.testing.assert_array_equal(arrays[0], want[0], err_msg=kernel.name)


def tf32(x: np.ndarray) -> np.ndarray:
    """float32 to the nearest number of 10 bits of fraction, of two the larger."""
    return ((x.view(np.uint32) + 0x1000) & ~np.uint32(0x1FFF)).view(np.float32)


@pytest.mark.parametrize("turned", [(False, True), (True, False)], ids=str)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_float32_is_rounded_to_the_nearest(arch: str, turned: tuple[bool, bool], tmp_path: Path) -> None:
    of, product = architecture(arch), MatrixProduct(128, 264, 128, F32, turned)
    program = lower(scheduled(product.kernel(), arch), of.target)
    source = of.language.render(program, of.target)
    rng = np.random.default_rng(3)
    arrays = [rng.uniform(1, 2, b.size).astype(np.float32) for b in program.kernel.arguments]
    rounded = [arrays[0], *[tf32(x) if b.size > product.columns else x
                            for x, b in zip(arrays[1:], program.kernel.arguments[1:], strict=True)]]
    run(Libraries(of.language, tmp_path), source, program, arrays)
    np.testing.assert_allclose(arrays[0], expected(product.kernel(), rounded)[0], rtol=2e-6)


def test_what_lies_as_boxes_do_is_copied_as_boxes() -> None:
    of = architecture("sm_90a")
    sources = [of.language.render(lower(scheduled(product.kernel(), "sm_90a"), of.target), of.target)
               for product in BOXED]
    assert all("copy_box<" in source for source in sources)
    assert any("multiply_by_groups<" in source for source in sources)
    assert any("multiply_by_warps<" in source for source in sources)


DEFECTS = {
    "panels are stored to while products read them":
        lambda source: re.sub(r"(multiply_by_groups<.*, )1>", r"\g<1>2>", source),
    "sums are stored while products are under way":
        lambda source: re.sub(r"finish_by_groups\(\w+\);", "__syncthreads();", source),
    "factors are multiplied before they are there":
        lambda source: source.replace("wait_for_copies<1>", "wait_for_copies<2>")}


@pytest.mark.parametrize("defect", ["", *DEFECTS])
def test_what_is_under_way_too_long_is_found(defect: str, tmp_path: Path) -> None:
    of, product = architecture("sm_90a"), MatrixProduct(128, 516, 128, F16).kernel()
    program = lower(scheduled(product, "sm_90a"), of.target)
    source = of.language.render(program, of.target)
    broken = DEFECTS[defect](source) if defect else source
    assert (broken != source) == bool(defect)
    arrays = arguments(program.kernel)
    want = expected(product, arrays)
    run(Libraries(of.language, tmp_path), broken, program, arrays)
    assert np.array_equal(arrays[0], want[0]) == (not defect)


# what a kernel of boxes lacks or does wrong: how, and what the launch says of it ("": results differ)
BOXES_WRONG = {
    "steps are not waited for": (r"wait_for_boxes\(\w+, \w+\);", "", "more arrivals of a phase"),
    "a step too few is waited for": (r"(wait_for_boxes\(\w+, \w+)", r"\g<1> - 1", "nobody has waited"),
    "the other phase is waited for": (r"step / STAGES % 2", "(step / STAGES + 1) % 2", "more arrivals"),
    "fewer bytes are announced than come": (r"SPANS \* BYTES", r"\g<0> - 16", "-32 bytes are left"),
    "more bytes are announced than come": (r"SPANS \* BYTES", r"\g<0> + 16", " 32 bytes are left"),
    "barriers wait for a copy that never comes": (r"open_arrivals<2>", "open_arrivals<3>", "1 arrivals"),
    "barriers are not made ready": (r"open_arrivals<2>\(\w+\);", "", "not made ready"),
    "boxes come to where products still read": (r"(multiply_by_groups<.*, )1>", r"\g<1>2>", ""),
    "a span is brought to another place": (r"to \+ BYTES \* i", r"\g<0> + 128", "pieces are in order"),
    "pieces are looked for where they would lie in order": (r"exchanged = 1", "exchanged = 0", "")}


@pytest.mark.parametrize("defect", ["", *BOXES_WRONG])
def test_boxes_that_are_waited_for_wrongly_are_found(defect: str, tmp_path: Path) -> None:
    of, product = architecture("sm_90a"), MatrixProduct(256, 512, 256, F16).kernel()  # for two groups
    program = lower(scheduled(product, "sm_90a"), of.target)
    source = of.language.render(program, of.target)
    pattern, wrong, says = BOXES_WRONG.get(defect, ("", "", ""))
    broken = re.sub(pattern, wrong, source) if defect else source
    assert (broken != source) == bool(defect)
    arrays = arguments(program.kernel)
    want = expected(product, arrays)
    error = launched(Libraries(of.language, tmp_path), broken, program, arrays)
    assert says in (error or "")
    assert (error is None) == (not says)
    assert says or np.array_equal(arrays[0], want[0]) == (not defect)

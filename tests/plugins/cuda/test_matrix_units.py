"""Kernels for matrix units, compiled: what NVRTC makes of them, and how warps share a tile. Needs no GPU."""

from __future__ import annotations

import re

import pytest

from pluggrad import dtypes
from pluggrad.config import Context
from pluggrad.kernel.kernel import Kernel
from pluggrad.lower import lower
from pluggrad.lower.program import Program
from pluggrad.plugin_api import DeviceUnavailable
from pluggrad.tune.heuristics import tune_kernel
from pluggrad_cuda import nvrtc, tensor_maps
from pluggrad_cuda.compiler import CudaToolchain
from pluggrad_cuda.matrix_units import layout
from pluggrad_cuda.target import A100, H100, Properties, target_of
from tests.matrix_products import Convolution, MatrixProduct, by_heads, kernels_of, leaf

try:
    nvrtc.library()
except DeviceUnavailable as error:
    pytest.skip(f"needs NVRTC: {error}", allow_module_level=True)

F16, BF16, F32 = dtypes.float16, dtypes.bfloat16, dtypes.float32
PRODUCTS = [
    MatrixProduct(8192, 8192, 8192, BF16), MatrixProduct(4096, 4096, 4096, F16, (True, True), out=F16),
    MatrixProduct(4096, 4096, 4096, F32), MatrixProduct(4001, 4003, 4005, F16, (True, False)),
    MatrixProduct(512, 512, 512, BF16, (False, True), stack=8)]
CONVOLUTIONS = [
    *[Convolution(of, BF16, 32, 256, 256, (14, 14), (3, 3), padding=1) for of in "yxw"],
    Convolution("y", F16, 8, 3, 64, (224, 224), (7, 7), stride=2, padding=3),
    Convolution("y", F16, 16, 256, 512, (14, 14), (1, 1))]


def program_of(untuned: Kernel, gpu: Properties) -> Program:
    target = target_of(gpu)
    with Context(MATMUL_PRECISION="tf32"):
        kernels = tune_kernel(untuned, target.capabilities)
    (kernel,) = [kernel for kernel in kernels if any(axis.kind == "MATRIX" for axis in kernel.axes)]
    return lower(kernel, target)


def waits(source: str, toolchain: CudaToolchain) -> list[str]:
    """What the assembler says of products that it lets nothing be done beside."""
    _, log = nvrtc.library().compile(source, toolchain.options)
    return [line for line in log.splitlines() if "wgmma" in line]


@pytest.mark.parametrize("product", PRODUCTS, ids=str)
@pytest.mark.parametrize("gpu", [A100, H100], ids=lambda gpu: str(gpu.capability))
def test_large_tiles_stay_in_registers(gpu, product):
    program, toolchain = program_of(product.kernel(), gpu), CudaToolchain(target_of(gpu))
    source = toolchain.render(program)
    (found,) = toolchain.resources(source).values()
    assert waits(source, toolchain) == []
    assert found.spilled_bytes == found.stack_bytes == 0
    assert found.registers * program.group <= 64 << 10
    assert ("wgmma.mma_async" in source) == (gpu is H100)
    boxed = gpu is H100 and product.inputs is not F32 and product.rows % 2 == 0
    assert ("copy_box<" in source) == boxed
    assert ("copy_ahead<16>" in source) == (product.rows % 2 == 0 and not boxed)


BOXED = [
    *[MatrixProduct(2048, 1024, 2048, dtype, turned) for dtype in (F16, BF16)
      for turned in ((False, False), (False, True), (True, False), (True, True))],
    MatrixProduct(4001, 4088, 4008, F16), MatrixProduct(4096, 4088, 4001, BF16, (True, True)),
    MatrixProduct(1000, 1016, 1064, F16, stack=5)]


@pytest.mark.parametrize("product", BOXED, ids=str)
def test_products_of_boxes_compile_without_spills_or_warnings(product):
    program, toolchain = program_of(product.kernel(), H100), CudaToolchain(target_of(H100))
    assert len(program.boxes) == 2
    source = toolchain.render(program)
    _, log = nvrtc.library().compile(source, toolchain.options)
    assert "warning" not in log
    (found,) = toolchain.resources(source).values()
    assert waits(source, toolchain) == []
    assert found.spilled_bytes == found.stack_bytes == 0
    # what the launch asks for beside the panels, so that they begin where spans do
    assert program.kernel.local_bytes + tensor_maps.ALIGNMENT + found.shared_bytes <= H100.shared_bytes
    assert "wgmma.mma_async" in source
    assert f"cp.async.bulk.tensor.{2 + (product.stack > 1)}d" in source


@pytest.mark.parametrize("dims", [4, 5])
def test_boxes_of_more_dimensions_compile(dims):
    x, y = [leaf(F16, 4, 3, 512, 2, 64) for _ in range(2)]
    x, y = [part[:, 1:] if dims == 5 else part for part in (x, y)]  # else a stack is one dimension
    (untuned,) = kernels_of(by_heads(x, y))
    program, toolchain = program_of(untuned, H100), CudaToolchain(target_of(H100))
    assert {len(box.dims) for box in program.boxes} == {dims}
    source = toolchain.render(program)
    (found,) = toolchain.resources(source).values()
    assert found.spilled_bytes == found.stack_bytes == 0
    assert f"cp.async.bulk.tensor.{dims}d" in source


def test_sums_that_are_touched_while_products_are_under_way_are_waited_for():
    program, toolchain = program_of(PRODUCTS[0].kernel(), H100), CudaToolchain(target_of(H100))
    source = toolchain.render(program)
    touched = re.sub(r"multiply_by_groups<.*\((\w+), .*;", r"\g<0> \1[0][0][0] += 1.f;", source)
    assert touched != source
    assert any("serialized" in line for line in waits(touched, toolchain))


@pytest.mark.parametrize("product", [*CONVOLUTIONS, MatrixProduct(64, 2001, 17, BF16)], ids=str)
@pytest.mark.parametrize("gpu", [A100, H100], ids=lambda gpu: str(gpu.capability))
def test_panels_are_gathered_in_registers(gpu, product):
    (untuned,) = product.kernels() if isinstance(product, Convolution) else [product.kernel()]
    program, toolchain = program_of(untuned, gpu), CudaToolchain(target_of(gpu))
    assert "MMA" in {instr.op for instr in program.body}
    source = toolchain.render(program)
    (found,) = toolchain.resources(source).values()
    assert waits(source, toolchain) == []
    assert found.spilled_bytes == found.stack_bytes == 0
    assert found.registers * program.group <= 64 << 10
    assert source.count("#pragma unroll 1\n") == 1


@pytest.mark.parametrize(("size", "gpu", "want"), [
    (8192, A100, (2, 4, 8, False)), (8192, H100, (8, 1, 32, True)), (128, H100, (2, 1, 2, False))])
def test_warps_share_a_tile(size, gpu, want):
    program = program_of(MatrixProduct(size, size, size, F16).kernel(), gpu)
    (tile,) = {instr.arg for instr in program.body if instr.op == "MMA"}
    place = layout(tile, program, gpu.capability)
    assert tuple(place) == want
    assert place.rows * 16 * place.columns * 8 * program.group // 32 == tile.rows * tile.columns

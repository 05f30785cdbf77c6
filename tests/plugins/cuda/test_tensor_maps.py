"""Maps of boxes: what the driver is told, when, and what happens where it does not make them."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad.device.seal import seal
from pluggrad.kernel.boxes import boxes_of
from pluggrad.kernel.kernel import Box, Dim
from pluggrad.plugin_api import KernelFault, SlotRef, dtypes
from pluggrad.runtime.compilation import signature_of
from pluggrad.runtime.compiled import _signature_data, _stored_signature
from pluggrad.tune.heuristics import tune_kernel
from pluggrad_cuda import libcuda, tensor_maps
from pluggrad_cuda.plugin import CudaBackend
from pluggrad_cuda.target import H100, target_of
from tests.matrix_products import MatrixProduct
from tests.plugins.cuda import lists
from tests.plugins.cuda.double import kernels
from tests.shims.maps import encode

SIZE = 256
BOX = Box(1, 16, (Dim(5, 1, 64), Dim(3, 8, 32), Dim(2, 24, 1)), 64)  # of halves, from the 17th on


@pytest.fixture
def boxed(device):
    """out = x + v0, by a kernel that also takes a map of x and asks for 2048 bytes for panels."""
    image = kernels.image(kernels.hand_kernel("add", SIZE, static_shared=32, dynamic_shared=3072, maps=1))
    signature = kernels.signature("add", 2 * SIZE, tasks=SIZE, scratch=2048, boxes=(BOX,),
                                  dtype=dtypes.float16)
    return lists.launch(device.load(seal(image), signature), SlotRef(0), SlotRef(1))


def blocks(device, *starts: float) -> list:
    return [lists.filled(device, np.full(SIZE, start, np.float32)) for start in starts]


def test_the_driver_is_told_of_dimensions_in_bytes_and_of_one_span(world, device, boxed):
    out, x = blocks(device, 0, 1)
    device.submit([boxed], [out, x], [2.0]).wait()
    assert lists.read(device, out)[0] == 3
    (told,) = world.maps
    assert told.address == x.address + 32
    assert (told.extents, told.strides, told.box, told.every) == ((5, 3, 2), (16, 48), (64, 32, 1), (1, 1, 1))
    assert (told.kind, told.modes) == (1, (0, 3, 3, 0))


def test_a_map_is_made_again_where_the_buffer_is_another_one(world, device, boxed):
    out, x, y = blocks(device, 0, 1, 5)
    run = device.prepare([boxed] * 3, (dtypes.float32,))
    made = []
    for source, value in ((x, 1.0), (x, 2.0), (y, 2.0), (y, 3.0), (x, 3.0)):
        run([out, source], [value]).wait()
        assert lists.read(device, out)[0] == lists.read(device, source)[0] + value
        made.append(len(world.maps))
    assert world.count("cuGraphLaunch") == 4
    assert made == [3, 3, 6, 6, 9]


def test_runs_in_flight_keep_their_maps(world, device, boxed):
    sources = blocks(device, 1, 2, 3, 4)
    outs = blocks(device, 0, 0, 0, 0)
    run = device.prepare([boxed] * 3, (dtypes.float32,))
    world.held = True
    events = [run([out, source], [1.0]) for out, source in zip(outs, sources, strict=True)]
    world.held = False
    events[-1].wait()
    assert [lists.read(device, out)[0] for out in outs] == [2, 3, 4, 5]


def test_a_map_that_the_driver_refuses_is_an_error_of_its_list(world, device, boxed):
    out, x = blocks(device, 0, 1)
    world.fail(libcuda.ENCODE_MAP, 1)
    with pytest.raises(KernelFault, match="cuTensorMapEncodeTiled: CUDA_ERROR_INVALID_VALUE"):
        device.submit([boxed], [out, x], [2.0])
    device.submit([boxed], [out, x], [2.0]).wait()
    assert lists.read(device, out)[0] == 3


@pytest.mark.parametrize("there", [True, False])
def test_where_the_driver_makes_no_maps_items_fill_panels(world, there):
    if not there:
        delattr(libcuda.open_library(), libcuda.ENCODE_MAP)
        libcuda.library.cache_clear()
    target = CudaBackend().target(0, "")
    assert target.arch == "sm_90a"
    engines = {unit.inputs: unit.engine is not None for unit in target.capabilities.matrix_units}
    assert engines == {"float16": there, "bfloat16": there, "float32": False}
    (kernel,) = tune_kernel(MatrixProduct(1024, 1024, 1024, dtypes.float16).kernel(), target.capabilities)
    assert bool(boxes_of(kernel)) == there


@pytest.mark.parametrize("product", [
    MatrixProduct(1024, 512, 1024, dtypes.float16), MatrixProduct(1001, 512, 1024, dtypes.bfloat16),
    MatrixProduct(512, 512, 512, dtypes.bfloat16, (False, True), stack=3)], ids=str)
def test_what_is_asked_for_is_what_the_header_allows(product):
    target = target_of(H100)
    (kernel,) = tune_kernel(product.kernel(), target.capabilities)
    signature = signature_of(kernel, target)
    assert len(signature.boxes) == 2
    assert _stored_signature(_signature_data(signature)) == signature
    for box in signature.boxes:
        encode(*tensor_maps.arguments(box, signature.buffers[box.source], 1 << 40))

"""The limits of a device, measured once by kernels of our own and kept in the cache folder.

Nothing here knows the device: arithmetic is the faster of chains of multiply-adds, in which nothing waits for
memory, and a product of matrices; traffic is that of a triad over arrays that no cache holds.
"""
from __future__ import annotations

import hashlib
import json
from functools import partial, reduce
from typing import Final

from pluggrad import dtypes
from pluggrad.config import Context
from pluggrad.errors import PluggradError
from pluggrad.graph import build, ops
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, node
from pluggrad.kernel.build import build as build_kernel
from pluggrad.kernel.cost import Cost, cost
from pluggrad.kernel.kernel import Kernel
from pluggrad.profiling.limits import Limits
from pluggrad.runtime import cache
from pluggrad.runtime.trial import Place, Trial
from pluggrad.schedule import schedule
from pluggrad.target import DeviceId
from pluggrad.tune import tune

_CHAINS: Final = 4  # that do not wait for each other
_STEPS: Final = 24  # multiply-adds of a chain
_COLUMNS: Final = 4096  # numbers that stay in a first-level cache
_ROWS: Final = 1024
_SIDE: Final = 1024  # of the matrices
_LEAST_BYTES: Final = 32 << 20  # of one array
_MOST_BYTES: Final = 512 << 20

_known: dict[DeviceId, Limits | None] = {}


def limits_of(place: Place) -> Limits | None:
    """What a device reaches; measured, in about a second, where neither memory nor disk has it.

    None where the device cannot run the kernels that would measure it.
    """
    if place.id not in _known:
        _known[place.id] = _stored(place) or measure(place)
    return _known[place.id]


def measure(place: Place) -> Limits | None:
    """Measure again; what was found before counts where it was more, as on a machine that is busy now."""
    try:
        with Context(DEBUG=0):
            found = _measured(place)
    except PluggradError:
        return None
    before = _stored(place)
    if before is not None:
        found = Limits(max(found.operations, before.operations), max(found.bytes, before.bytes))
    cache.store("limits", _key(place), json.dumps([found.operations, found.bytes]).encode())
    _known[place.id] = found
    return found


def _stored(place: Place) -> Limits | None:
    """What was found before, on disk."""
    content = cache.load("limits", _key(place))
    return None if content is None else Limits(*json.loads(content))


def _key(place: Place) -> str:
    return hashlib.sha256(f"{place.context}\0{place.id}".encode()).hexdigest()


def _measured(place: Place) -> Limits:
    capabilities = place.target.capabilities
    size = min(max(4 * capabilities.shared_cache_bytes, _LEAST_BYTES), _MOST_BYTES) // 4
    work = [_timed(place, root) for root in (_multiply_adds(place.id), _product(place.id))]
    moved, seconds = _timed(place, _triad(place.id, size))
    return Limits(max(done.operations / took for done, took in work), moved.bytes / seconds)


def _timed(place: Place, root: Node) -> tuple[Cost, float]:
    """What a kernel does, and its seconds."""
    kernel = _kernel(place, root)
    return cost(kernel), Trial(place, kernel, tune(kernel, place.target.capabilities, place.claim)).seconds()


def _kernel(place: Place, root: Node) -> Kernel:
    [region] = schedule([root], place.target.capabilities.max_buffers)
    return build_kernel(region).kernel


# ---- what is run -------------------------------------------------------------------------------------------
def _multiply_adds(device: DeviceId) -> Node:
    """Sums along rows of chains x = x * a + b, started from a row's number plus a column's."""
    columns = build.expand(_input(0, (1, _COLUMNS), device), (_ROWS, _COLUMNS))
    x = build.binary(ops.ADD, columns, build.expand(_input(1, (_ROWS, 1), device), (_ROWS, _COLUMNS)))
    chains = [_multiply_add(x, 1 + number / 16, number / 8) for number in range(_CHAINS)]
    for _ in range(_STEPS):
        chains = [_multiply_add(each, 0.5, 0.25) for each in chains]
    return build.reduce(ops.SUM, reduce(partial(build.binary, ops.ADD), chains), (1,))


def _product(device: DeviceId) -> Node:
    """a[i, k] * b[k, j] summed over k, as a matmul writes it."""
    cube = (_SIDE, _SIDE, _SIDE)
    a = build.expand(_input(0, (_SIDE, _SIDE, 1), device), cube)
    b = build.expand(_input(1, (1, _SIDE, _SIDE), device), cube)
    return build.reduce(ops.SUM, build.binary(ops.MUL, a, b), (1,))


def _triad(device: DeviceId, size: int) -> Node:
    x, y = _input(0, (size,), device), _input(1, (size,), device)
    return build.binary(ops.ADD, build.binary(ops.MUL, x, _constant(3.0, x)), y)


def _input(number: int, shape: tuple[int, ...], device: DeviceId) -> Node:
    return node(ops.INPUT, (), number, tensor_type(shape, dtypes.float32, device))


def _constant(value: float, like: Node) -> Node:
    return build.const(value, dtypes.float32, like.device, like.shape, fixed=True)


def _multiply_add(x: Node, a: float, b: float) -> Node:
    return build.binary(ops.ADD, build.binary(ops.MUL, x, _constant(a, x)), _constant(b, x))


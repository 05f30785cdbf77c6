"""The random stream: a key from the seed and a counter of draws, read by value and read anew by replays."""
from __future__ import annotations

import math
import os
import threading
from typing import Final

import numpy as np

from pluggrad import dtypes, runtime
from pluggrad.errors import JitError
from pluggrad.graph import build
from pluggrad.graph.scalar import HostValue, read
from pluggrad.ir.node import Node
from pluggrad.shape.dims import Shape
from pluggrad.target import DeviceId
from pluggrad.tensor.tracing import active

_seed = int.from_bytes(os.urandom(8), "little")
rng_key: Final = (HostValue(_seed & 0xFFFFFFFF, "rng key 0"), HostValue(_seed >> 32, "rng key 1"))
rng_counter: Final = HostValue(0, "rng counter", counts=True)
_lock = threading.Lock()


def manual_seed(seed: int = 0) -> None:
    """Start the random stream anew: later draws depend on `seed` (its low 64 bits) and their order alone."""
    if runtime.capturing():
        raise JitError(op="manual_seed", expected="a call outside captured functions",
                       got="one inside, which replays would not repeat")
    with _lock:
        rng_key[0].value, rng_key[1].value = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
        rng_counter.value = 0


def get_rng_state() -> tuple[int, int]:
    """The seed of the random stream and its position: what `set_rng_state` goes on from."""
    with _lock:
        return int(rng_key[0].value) | int(rng_key[1].value) << 32, int(rng_counter.value)


def set_rng_state(state: tuple[int, int]) -> None:
    """Go on with the random stream from where `get_rng_state` found it."""
    seed, position = state
    manual_seed(seed)
    with _lock:
        rng_counter.value = position


def _second_key(key: float, draw: float) -> int:
    """Another one from each 2**32 draws on, as the cipher's counter has 32 bits for them."""
    return int(key) ^ int(draw) >> 32


def random_bits(shape: Shape, device: DeviceId) -> Node:
    """uint32 random bits: the next draw of the stream."""
    with _lock:
        second = read((rng_key[1], rng_counter), _second_key)
        readings = (rng_key[0].read(), second, rng_counter.read())
        rng_counter.value += max(-(-math.prod(shape) >> 32), 1)  # a draw counts 2**32 elements
    bits = build.random_bits(shape, *[build.const(reading, dtypes.uint32, device) for reading in readings])
    for trace in active.traces:
        trace.drawn(bits)
    return bits


def host_seed() -> int:
    """The next draw of the stream, 64 bits, to seed what is random on the host: the order of a dataset."""
    with _lock:
        key = [*(word.value for word in rng_key), rng_counter.value]
        rng_counter.value += 1
    return int(np.random.SeedSequence([int(word) for word in key]).generate_state(1, np.uint64)[0])


def _renew_lock() -> None:
    """In a forked child: a lock that another thread of the parent held would never be released."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

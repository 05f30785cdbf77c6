"""Random kernels against an evaluation of one position at a time, in exact integers."""
from __future__ import annotations

import functools
import itertools
import random

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.ir.node import Node, node
from pluggrad.kernel import interpret as interpreter
from pluggrad.kernel import ops
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel, axis, const
from tests.unit.kernel.kernels import kernel, load, op, read, reduce, store, strided, write
from tests.unit.kernel.scalar_reference import COMPARE, cast, integer

I32, BOOL = dtypes.int32, dtypes.bool_
EXTENTS = (2, 3, 4, 3)  # axes 0 and 1 are stored over, 2 and 3 are for reductions
SIZE = 50


def random_kernel(rng: random.Random) -> Kernel:
    value = _expression(rng, [0, 1], 4)
    outs = store(2, (0, 1), strided(a0=3, a1=1), value)
    return kernel(EXTENTS, [read(SIZE, I32), read(SIZE, I32), write(6, I32)], outs, values=(I32,))


def _index(rng: random.Random, axes: list[int]) -> Node:
    """Strided within the buffers, or folded into them."""
    affine = strided(rng.randrange(5), **{f"a{a}": rng.choice([0, 1, 2, 4, 5]) for a in axes})
    folded = op("CMOD", op("MUL", affine, const(rng.randrange(1, 9))), const(SIZE))
    return affine if rng.random() < 0.6 else folded


def _expression(rng: random.Random, axes: list[int], depth: int) -> Node:
    kinds = ["leaf", "unary", "binary", "binary", "product", "reduce", "reduce", "where"]
    kind = rng.choice(kinds) if depth else "leaf"
    unbound = [a for a in (2, 3) if a not in axes]
    if kind == "leaf":
        gate = None
        if rng.random() < 0.2:
            outer = rng.choice(axes)
            position = op("ADD", op("MUL", axis(outer), const(3)), axis(rng.choice(axes)))
            gate = node(ops.TAIL, (position,), (outer, 3, rng.randrange(8)), BOOL)
        loaded = load(rng.randrange(2), _index(rng, axes), I32, gate)
        others = [loaded, const(rng.randrange(-5, 6), I32), node(ops.VALUE, (), 0, I32),
                  op("CAST", axis(rng.choice(axes)), dtype=I32)]
        return rng.choices(others, [6, 1, 1, 1])[0]
    if kind == "reduce" and unbound:
        bound = rng.sample(unbound, rng.randint(1, len(unbound)))
        name = rng.choice(["ADD", "ADD", "MUL", "MAX", "MIN"])
        return reduce(name, _expression(rng, axes + bound, depth - 1), *sorted(bound))
    if kind == "product" and unbound:  # factors over different axes: contracted
        bound = [rng.choice(unbound)]
        x, y = [load(slot, _index(rng, some + bound), I32) for slot, some in ((0, axes[:1]), (1, axes[1:]))]
        return reduce("ADD", op("MUL", x, y), *bound)
    if kind == "unary":
        return op(rng.choice(["NEG", "ABS", "NOT"]), _expression(rng, axes, depth - 1))
    x, y = _expression(rng, axes, depth - 1), _expression(rng, axes, depth - 1)
    if kind == "where":
        return op("WHERE", op(rng.choice(["LT", "EQ"]), x, y, dtype=BOOL), y, x)
    return op(rng.choice(["ADD", "SUB", "MUL", "IDIV", "MOD", "MAX", "XOR", "SHR"]), x, y)


def evaluate(value: Node, at: dict[int, int], buffers: list[list[int]], scalar: int) -> int:
    """One node at one position, by its definition."""
    name = value.op.name
    def sources() -> list[int]:
        return [evaluate(s, at, buffers, scalar) for s in value.src]
    if name == "AXIS":
        return at[value.arg]
    if name == "CONST":
        return int(value.arg.of(value.type))
    if name == "VALUE":
        return scalar
    if name == "TAIL":
        return sources()[0] < value.arg[2]
    if name == "LOAD":
        inside = len(value.src) == 1 or evaluate(value.src[1], at, buffers, scalar)
        return buffers[value.arg][evaluate(value.src[0], at, buffers, scalar)] if inside else 0
    if name == "REDUCE":
        combine, axes = value.arg
        positions = itertools.product(*[range(EXTENTS[a]) for a in axes])
        items = [evaluate(value.src[0], at | dict(zip(axes, p)), buffers, scalar) for p in positions]
        return functools.reduce(integer(combine, value.type), items)
    if name == "WHERE":
        condition, x, y = sources()
        return x if condition else y
    if name == "CAST":
        return int(cast(sources()[0], value.src[0].type, value.type))
    if name in ("CMOD", "CDIV"):
        x, y = sources()
        return x % y if name == "CMOD" else x // y  # both are never negative here
    if name in COMPARE:
        return COMPARE[name](*sources())
    return integer(name, value.type)(*sources())


@pytest.mark.parametrize("limit", [1 << 24, 5])
@pytest.mark.parametrize("seed", range(80))
def test_random_kernel(seed: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    built = random_kernel(rng)
    buffers = [[rng.choice([rng.randrange(-9, 10), I32.min, I32.max]) for _ in range(SIZE)] for _ in range(2)]
    scalar = rng.randrange(-9, 10)
    value = built.stores[0].src[1]
    want = [evaluate(value, {0: i, 1: j}, buffers, scalar) for i in range(2) for j in range(3)]
    out = np.zeros(6, np.int32)
    monkeypatch.setattr(interpreter, "BLOCK_ELEMENTS", limit)
    interpret(built, [*(np.array(buffer, np.int32) for buffer in buffers), out], [scalar])
    assert out.tolist() == want

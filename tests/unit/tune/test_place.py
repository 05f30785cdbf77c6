"""Placed operands leave what a kernel computes as it was."""
from __future__ import annotations

import pytest

from pluggrad import dtypes
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.kernel import Axis, Kernel, const
from pluggrad.tune.actions import split
from pluggrad.tune.place import Dim, gate_dims, place, place_local, whole
from tests.unit.kernel.kernels import load, matmul, op, read, reduce, store, strided, write
from tests.unit.tune.test_actions import kinds, same


def loads(kernel: Kernel) -> list[Node]:
    return [n for n in toposort(kernel.stores) if n.op is ops.LOAD]


def convolution(n: int = 9, k: int = 3) -> Kernel:
    """out[i] = sum of x[i + j - 1] * w[j], 0 beyond the border."""
    at = strided(-1, a0=1, a1=1)
    inside = op("AND", op("LE", const(0), at, dtype=dtypes.bool_), op("LT", at, const(n), dtype=dtypes.bool_),
                dtype=dtypes.bool_)
    product = op("MUL", load(0, at, gate=inside), load(1, strided(a1=1)))
    return kinds(Kernel("test", (read(n), read(k), write(n)), (), (Axis(0, n, "LOOP"), Axis(1, k, "LOOP")),
                        (store(2, (0,), strided(a0=1), reduce("ADD", product, 1)),)))


def placed(kernel: Kernel, value: Node, dims: list[Dim]) -> tuple[Kernel, Kernel]:
    made = place(kernel, value, dims)
    assert made is not None
    for part in made:
        verify_kernel(part, "place")
    same(kernel, *made, temporaries=made[1].buffers[len(kernel.buffers):])
    return made


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("order", [1, -1])
def test_an_operand_in_any_order_of_its_axes(number, order):
    kernel = kinds(matmul(5, 7, 11))
    value = loads(kernel)[number]
    used = [a for a in kernel.axes if any(n.op is ops.AXIS and n.arg == a.id for n in toposort([value]))]
    fill, main = placed(kernel, value, [whole(a) for a in used[::order]])
    assert len(loads(fill)) == 1
    assert len(loads(main)) == 2
    assert main.buffers[-1].size == used[0].extent * used[1].extent


def test_panels_hold_zeros_beyond_the_edge():
    kernel, outer, inner = split(kinds(matmul(5, 7, 11)), 1, 4, "PARALLEL", "VECTOR")
    value = next(n for n in loads(kernel) if len(n.src) > 1)
    dims = [whole(a) for a in kernel.axes if a.id in (outer, 2, inner)]
    _, main = placed(kernel, value, dims)
    assert all(len(n.src) == 1 for n in loads(main)), "no gate is left in the inner loop"


def test_a_border_is_read_without_gates():
    kernel = convolution()
    gated = next(n for n in loads(kernel) if len(n.src) > 1)
    dims = gate_dims(kernel, gated)
    assert dims is not None
    assert [d.extent for d in dims] == [11]
    fill, main = placed(kernel, gated, dims)
    assert all(len(n.src) == 1 for n in loads(main))
    assert any(len(n.src) == 2 for n in loads(fill))


def test_what_depends_on_other_axes_cannot_be_placed():
    kernel = kinds(matmul(5, 7, 11))
    first = loads(kernel)[0]
    assert place(kernel, first, [whole(kernel.axes[0])]) is None


@pytest.mark.parametrize("number", [0, 1])
def test_a_task_packs_for_itself(number):
    kernel, _, rows = split(kinds(matmul(5, 7, 11)), 0, 2, "PARALLEL", "TILE")
    kernel, columns, lanes = split(kernel, 1, 4, "LOOP", "VECTOR")
    value = next(n for n in loads(kernel) if n.arg == number)
    within = [columns] if number else []
    dims = [whole(a) for a in kernel.axes if a.id in (2, rows if number == 0 else lanes)]
    made = place_local(kernel, value, dims, within)
    assert made is not None
    verify_kernel(made, "place_local")
    same(kernel, made)
    assert made.arguments == kernel.buffers
    assert made.local_bytes == 4 * dims[0].extent * dims[1].extent
    assert len(made.stores) == 2


def test_what_a_task_packs_may_not_vary_within_it():
    kernel, _, _ = split(kinds(matmul(5, 7, 11)), 1, 4, "LOOP", "VECTOR")
    assert place_local(kernel, loads(kernel)[1], [whole(kernel.axes[-1])]) is None

"""What a backend is offered, what is left of a kernel when it takes something over, and that results stay."""
from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from pluggrad import Tensor, dtypes
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.matmul import Matmul, Matrix, find_matmul
from pluggrad.kernel.offer import Extern
from pluggrad.plan import Plan
from pluggrad.plan.build import build_plan
from pluggrad.plan.text import plan_text
from pluggrad.runtime.normalize import Normalized, normalize, rebuild
from pluggrad.target import Capabilities
from tests.plan_executor import run_plan
from tests.unit.kernel.kernels import kernel, load, op, read, reduce, store, strided, write

NAMES = frozenset(dtype.name for dtype in dtypes.ALL)
CAPABILITIES = Capabilities(NAMES, NAMES, vector_bytes=32, cores=4)


def drawn(*shape: int, dtype: str = "float32") -> Tensor:
    generator = np.random.default_rng(len(shape) + sum(shape))
    values = generator.integers(-4, 5, shape).astype(np.float32)
    return Tensor(values, device="ref").cast(dtype).realize()


def products(offered: Kernel) -> Extern | None:
    """A library that multiplies matrices of any dtype."""
    found = find_matmul(offered)
    return None if found is None else Extern("library", found.encode())


def planned(*tensors: Tensor, claim=products) -> tuple[Normalized, Plan]:
    normalized = normalize([tensor.node for tensor in tensors])
    return normalized, build_plan(rebuild(normalized), (None,) * len(tensors), CAPABILITIES, claim)


def matrix(x: Matrix, buffers: list[np.ndarray]) -> np.ndarray:
    memory = buffers[x.buffer]
    return as_strided(memory[x.offset:], x.shape, [stride * memory.itemsize for stride in x.strides])


def multiply(product: Matmul, buffers: list[np.ndarray]) -> None:
    a, b, out = [matrix(x, buffers) for x in (product.a, product.b, product.out)]
    wide = product.accumulator.numpy
    out[...] = np.matmul(a.astype(wide), b.astype(wide))


def run(normalized: Normalized, plan: Plan) -> list[np.ndarray]:
    """The roots' bytes; what the library took over is computed from its payload alone."""
    brought = {id(plan.kernels[number]): extern for number, extern in plan.externs.items()}

    def launch(launched, buffers, values):
        extern = brought.get(id(launched))
        if extern is None:
            interpret(launched, buffers, values)
        else:
            multiply(Matmul.decode(extern.payload), buffers)

    inputs = [np.array(v.storage.block.allocation[:v.storage.block.nbytes]) for v in normalized.inputs]
    return run_plan(plan, inputs, [s.python for s in normalized.scalars], run_kernel=launch)


def check(*tensors: Tensor) -> Plan:
    """Both plans give the same; returns the one with a library."""
    normalized, plan = planned(*tensors)
    alone = planned(*tensors, claim=None)[1]
    for tensor, mine, theirs in zip(tensors, run(normalized, plan), run(normalized, alone), strict=True):
        count = tensor.node.type.size * tensor.dtype.itemsize
        np.testing.assert_array_equal(mine[:count].view(tensor.dtype.numpy),
                                      theirs[:count].view(tensor.dtype.numpy))
    return plan


def only(plan: Plan) -> Matmul:
    """The one thing that the plan runs."""
    assert len(plan.kernels) == len(plan.externs) == 1
    return Matmul.decode(plan.externs[0].payload)


# ---- what is recognized ------------------------------------------------------------------------------------
EXPRESSIONS = {
    "plain": (lambda: drawn(5, 7) @ drawn(7, 3), (), 5, 3, 7),
    "left transposed": (lambda: drawn(7, 5).T @ drawn(7, 3), (), 5, 3, 7),
    "right transposed": (lambda: drawn(5, 7) @ drawn(3, 7).T, (), 5, 3, 7),
    "both transposed": (lambda: drawn(7, 5).T @ drawn(3, 7).T, (), 5, 3, 7),
    "with itself": (lambda: (x := drawn(5, 7)) @ x.T, (), 5, 5, 7),
    "a part": (lambda: drawn(9, 20)[2:7, 3:17:2] @ drawn(7, 3), (), 5, 3, 7),
    "batched": (lambda: drawn(4, 5, 7) @ drawn(4, 7, 3), (4,), 5, 3, 7),
    "a batch of rows": (lambda: drawn(4, 5, 7) @ drawn(7, 3), (), 20, 3, 7),
    "left repeated": (lambda: drawn(5, 7) @ drawn(4, 7, 3), (4,), 5, 3, 7),
    "two batches": (lambda: drawn(2, 1, 5, 7) @ drawn(4, 7, 3), (2, 4), 5, 3, 7),
    "by a vector": (lambda: drawn(5, 7) @ drawn(7), (), 5, 1, 7),
    "a vector by": (lambda: drawn(7) @ drawn(7, 3), (), 1, 3, 7),
}


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_a_product_is_taken_over_in_whatever_order_its_operands_lie(case):
    make, batch, m, n, k = EXPRESSIONS[case]
    product = only(check(make()))
    assert (product.batch, product.m, product.n, product.k) == (batch, m, n, k)
    assert product.out.strides[-1] in (0, 1)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8"])
def test_a_product_says_in_which_dtypes_it_is_computed(dtype):
    product = only(check(drawn(5, 7, dtype=dtype) @ drawn(7, 3, dtype=dtype)))
    assert {product.a.dtype.name, product.b.dtype.name, product.out.dtype.name} == {dtype}
    assert product.accumulator.itemsize >= dtypes.by_name(dtype).itemsize


@pytest.mark.parametrize("expression", [
    lambda: (drawn(5, 7) * drawn(5, 7)).sum(1), lambda: drawn(7) @ drawn(7), lambda: drawn(5, 7).sum(1),
    lambda: drawn(5, 7) + 1, lambda: drawn(5, 1) @ drawn(1, 3), lambda: drawn(5, 7).max(0),
], ids=["rows by rows", "dot", "sum", "elementwise", "outer", "max"])
def test_what_is_no_product_of_matrices_is_not_called_one(expression):
    assert check(expression()).externs == {}


def test_a_value_that_a_conversion_changes_is_no_operand():
    left, right = load(0, strided(a0=7, a2=1)), load(1, strided(a2=3, a1=1))
    whole = op("CAST", op("CAST", left, dtype=dtypes.int32), dtype=dtypes.float32)
    for factor, found in [(left, True), (whole, False)]:
        total = reduce("ADD", op("MUL", factor, right), 2)
        product = kernel([5, 3, 7], [read(35), read(21), write(15)],
                         store(2, (0, 1), strided(a0=3, a1=1), total))
        assert (find_matmul(product) is not None) == found


def test_a_description_survives_its_encoding():
    product = only(planned(drawn(4, 5, 7) @ drawn(4, 7, 3))[1])
    assert Matmul.decode(product.encode()) == product


# ---- what is left ------------------------------------------------------------------------------------------
def test_what_follows_a_product_becomes_a_kernel_of_its_own():
    plan = check((drawn(5, 7) @ drawn(7, 3) + drawn(3)).relu())
    assert len(plan.externs) == 1
    assert len(plan.kernels) == 2
    assert plan.arena_bytes >= 5 * 3 * 4


def test_a_narrow_product_is_handed_on_in_its_own_dtype():
    plan = check((drawn(5, 7, dtype="float16") @ drawn(7, 3, dtype="float16")).relu())
    assert Matmul.decode(plan.externs[0].payload).out.dtype is dtypes.float16


def test_two_products_in_one_kernel_are_both_taken():
    x = drawn(5, 7)
    plan = check((x @ drawn(7, 3)).relu() + x @ drawn(7, 3) * 2)
    assert len(plan.externs) == 2
    assert len(plan.kernels) == 3


def test_a_product_that_is_stored_and_used_is_computed_once():
    total = drawn(5, 7) @ drawn(7, 3)
    plan = check(total, total.relu())
    assert len(plan.externs) == 1
    assert len(plan.commands) == 2


def test_a_whole_kernel_may_be_taken():
    plan = planned((drawn(5, 7) @ drawn(7, 3) + 1).relu(), claim=lambda _: Extern("everything"))[1]
    assert list(plan.externs.values()) == [Extern("everything")] * len(plan.kernels)
    assert len(plan.commands) == 1


def test_what_is_refused_is_scheduled_as_ever():
    expression = (drawn(33, 70) @ drawn(70, 35) + 1).relu()
    assert planned(expression, claim=lambda _: None)[1] == planned(expression, claim=None)[1]


def test_listings_say_whose_code_runs():
    plan = planned(drawn(5, 7) @ drawn(7, 3))[1]
    assert "launch sum_5_3 by library(output 0, input 0, input 1)" in plan_text(plan)

"""Products against NumPy: ranks, broadcasting, dtypes, odd sizes, views."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes

pytestmark = pytest.mark.usefixtures("device")

RNG = np.random.default_rng(5)
SHAPES = [
    ((3,), (3,)),
    ((3, 4), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4, 5)),
    ((1, 1), (1, 1)),
    ((7, 13), (13, 11)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((5, 1, 3, 4), (2, 4, 2)),
    ((4,), (2, 4, 3)),
    ((2, 3, 4), (4,)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((33, 65), (65, 17)),
    ((1, 97), (97, 1)),
]


def normal(shape, dtype=np.float32):
    return RNG.normal(size=shape).astype(dtype)


@pytest.mark.parametrize(("left", "right"), SHAPES, ids=str)
def test_matmul(left, right):
    a, b = normal(left), normal(right)
    result = Tensor(a) @ Tensor(b)
    assert result.shape == (a @ b).shape
    np.testing.assert_allclose(result.numpy(), a @ b, rtol=1e-5, atol=1e-5)


def test_views_multiply():
    a, b = normal((6, 8)), normal((5, 6))
    result = Tensor(a).T[::2] @ Tensor(b).flip(0).T
    np.testing.assert_allclose(result.numpy(), a.T[::2] @ np.flip(b, 0).T, rtol=1e-5, atol=1e-5)


def test_names_of_the_product():
    a, b = normal((3, 4)), normal((4, 5))
    t, u = Tensor(a), Tensor(b)
    for result in (
        t.dot(u),
        t.matmul(u),
        u.matmul(t, reverse=True),
        t.mm(u),
        t @ b,
        a @ u,
        t.dot(u, dtype="float64"),
    ):
        np.testing.assert_allclose(result.numpy(), a @ b, rtol=1e-5, atol=1e-6)
    x, y = normal((2, 3, 4)), normal((2, 4, 5))
    np.testing.assert_allclose(Tensor(x).bmm(Tensor(y)).numpy(), x @ y, rtol=1e-5, atol=1e-6)


def test_integers_multiply():
    a, b = RNG.integers(-9, 9, (3, 4)), RNG.integers(-9, 9, (4, 2))
    result = Tensor(a, dtype="int32") @ Tensor(b, dtype="int32")
    assert result.dtype is dtypes.int32
    np.testing.assert_array_equal(result.numpy(), a @ b)
    small = Tensor([100, 100], dtype="uint8") @ Tensor([2, 2], dtype="uint8")
    assert small.dtype is dtypes.uint8
    assert small.item() == 400 % 256
    first_day = Tensor([1, 2, 3]) @ Tensor([[1], [2], [3]])
    assert first_day.tolist() == [14]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_add_up_in_float32(dtype):
    ones = Tensor.ones(1, 4096, dtype=dtype)
    result = ones @ ones.T
    assert result.dtype is dtypes.by_name(dtype)
    assert result.item() == 4096


def test_other_products():
    a, b = normal((3, 4, 5)), normal((4, 5, 2))
    np.testing.assert_allclose(
        Tensor(a).tensordot(Tensor(b)).numpy(), np.tensordot(a, b), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        Tensor(a).tensordot(Tensor(b), ([1], [0])).numpy(),
        np.tensordot(a, b, ([1], [0])),
        rtol=1e-5,
        atol=1e-5,
    )
    x, y = normal(3), normal(5)
    np.testing.assert_allclose(Tensor(x).outer(Tensor(y)).numpy(), np.outer(x, y), rtol=1e-6)
    np.testing.assert_allclose(Tensor(a[0]).kron(Tensor(b[0])).numpy(), np.kron(a[0], b[0]), rtol=1e-6)
    np.testing.assert_allclose(Tensor(a[0]).trace().item(), a[0].trace(), rtol=1e-5)


def close(ours, expected):
    assert ours.shape == np.shape(expected)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_products_of_vectors_and_sums_with_products():
    a, b, x = normal((3, 4)), normal((5, 4)), normal(4)
    close(Tensor(a).mv(x), a @ x)
    close(Tensor(a).inner(b), np.inner(a, b))
    close(Tensor(a).inner(Tensor(2.0)), a * 2)
    close(Tensor(a).vecdot(x), a @ x)
    close(Tensor(a).vecdot(a[0], 1), a @ a[0])
    close(Tensor(a).vecdot(a, dim=0), (a * a).sum(0))
    close(Tensor(normal(5) * 0 + 1).addmm(Tensor(a), b.T, beta=3, alpha=2), 3 + 2 * a @ b.T)
    c, d = normal((2, 3, 4)), normal((2, 4, 2))
    close(Tensor(np.ones((3, 2), np.float32)).baddbmm(Tensor(c), d), 1 + c @ d)
    close(Tensor(a).kron(Tensor(x)), np.kron(a, x))
    close(Tensor(a).tensordot(Tensor(b), ([-1], [1])), a @ b.T)
    close(Tensor(a).tensordot(Tensor(x), 0), np.tensordot(a, x, 0))


@pytest.mark.parametrize("dim", [-1, 0])
def test_cross(dim):
    a, b = normal((3, 3)), normal((3, 3))
    close(Tensor(a).cross(Tensor(b), dim), np.cross(a, b, axis=dim))
    close(Tensor(a).cross(b[0]), np.cross(a, b[0]))


@pytest.mark.parametrize("offset", [0, 1, -2])
def test_diag_embed(offset):
    a = normal((2, 3))
    expected = np.stack([np.diag(row, offset) for row in a])
    close(Tensor(a).diag_embed(offset), expected)
    close(Tensor(a).diag_embed(offset, 0, 2), np.moveaxis(expected, (1, 2), (0, 2)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: x.mv(x), "mv.*vector"),
        (lambda x: x.cross(x), "cross.*3 elements"),
        (lambda x: x.tensordot(x, 3), "tensordot.*0 to 2"),
        (lambda x: x.tensordot(x, ([2], [0])), "tensordot.*axis"),
        (lambda x: x.addmm(x, x), "mm"),
        (lambda x: x.diag_embed(0, 1, 1), "diag_embed.*different"),
        (lambda x: x[0, 0].diag_embed(), "diag_embed.*dimension"),
        (lambda x: x.vecdot(x, 2), "vecdot.*axis"),
    ],
)
def test_products_name_themselves(call, text):
    with pytest.raises(ValueError, match=text):
        call(Tensor.ones(2, 4))


@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 3), (4, 5)), ((3,), (4,)), ((2, 3, 4), (3, 4, 5)), ((), (3,)), ((3, 4), (3,))],
    ids=str,
)
def test_shapes_that_do_not_multiply(left, right):
    with pytest.raises(ValueError, match=r"matmul: ") as caught:
        Tensor(normal(left)) @ Tensor(normal(right))
    if left[:-2] == right[:-2]:
        assert f"{left} and {right}" in str(caught.value)


def test_a_number_does_not_multiply_as_a_matrix():
    with pytest.raises(ValueError, match=r"use \* for a number"):
        Tensor([[1.0]]) @ 2

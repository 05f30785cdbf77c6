"""einsum and rearrange: values against NumPy, the order of products, and where errors point."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.errors import DTypeError, MixedDevices, ShapeError
from pluggrad.testing.gradcheck import gradcheck

RNG = np.random.default_rng(2)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def on_ref(monkeypatch):
    from pluggrad import Device

    monkeypatch.setattr(Device, "DEFAULT", "ref")


# ---- einsum ------------------------------------------------------------------------------------------------
FORMULAS = {
    "ij,jk->ik": ((3, 4), (4, 5)),
    "ij,jk": ((3, 4), (4, 5)),
    "bij,bjk->bik": ((2, 3, 4), (2, 4, 5)),
    "ii->i": ((3, 3),),
    "ii": ((3, 3),),
    "iij,jkk->ik": ((3, 3, 2), (2, 4, 4)),
    "ba": ((3, 4),),
    "ijk->": ((2, 3, 4),),
    "i,j,k->kij": ((2,), (3,), (4,)),
    "...ij,...jk": ((2, 3, 4), (4, 5)),
    "i...,i...": ((3, 2), (3, 2)),
    "...i->...": ((2, 3, 4),),
    "...,...->...": ((2, 3), (3,)),
    " i j , j k -> k i ": ((3, 4), (4, 5)),
    "ij,jk,kl,lm->im": ((2, 3), (3, 4), (4, 5), (5, 6)),
    ",i->i": ((), (3,)),
    "ij,ij->": ((3, 0), (3, 0)),
    "ij,j->i": ((3, 4), (1,)),
    "bhqd,bhkd->bhqk": ((2, 2, 3, 4), (2, 2, 5, 4)),
    "ijk,jil->kl": ((3, 4, 5), (4, 3, 2)),
}


@pytest.mark.usefixtures("on_ref")
@pytest.mark.parametrize("formula", FORMULAS)
def test_einsum(formula):
    arrays = [normal(*shape) for shape in FORMULAS[formula]]
    expected = np.einsum(formula, *arrays)
    found = Tensor.einsum(formula, *[Tensor(array) for array in arrays])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("device")
def test_einsum_of_views_and_lists():
    a, b = normal(4, 3), normal(4, 5)
    expected = np.einsum("ji,jk->ki", a, b)
    of_a_view = Tensor.einsum("ij,jk->ki", Tensor(a).T, Tensor(b))
    for found in (of_a_view, Tensor.einsum("ji,jk->ki", [Tensor(a), b])):
        np.testing.assert_allclose(found.numpy(), expected, 1e-5, 1e-5)


@pytest.mark.usefixtures("on_ref")
def test_einsum_dtypes():
    ones = Tensor.ones(2, 3)
    for dtype in ("float16", "bfloat16", "float64", "int32", "int8"):
        assert Tensor.einsum("ij,ij->i", ones.cast(dtype), ones.cast(dtype)).dtype.name == dtype
    assert Tensor.einsum("ij,ij->i", ones.int(), ones).dtype.name == "float32"
    assert Tensor.einsum("ij->", ones.half(), dtype="float64").dtype.name == "float64"
    many = Tensor.ones(1, 4096).half()  # in a half the sum would stop at 2048
    assert Tensor.einsum("ij,ij->i", many, many).item() == 4096


def test_products_are_ordered_by_cost():
    """The chain from the right: a matrix with a vector, never the matrix with the matrix."""
    big, vector = Tensor.ones(64, 64, device="ref"), Tensor.ones(64, device="ref")
    found = Tensor.einsum("ij,jk,k->i", big, big, vector)
    stack, largest = [found.node], 0
    while stack:
        n = stack.pop()
        stack.extend(n.src)
        largest = max(largest, n.type.size)
    assert largest == 64 * 64


@pytest.mark.parametrize(("formula", "shapes"), [("ij,jk,k->i", ((2, 3), (3, 2), (2,))),
                                                 ("iij->j", ((2, 2, 3),))])
def test_einsum_gradients(formula, shapes):
    rng = np.random.default_rng(4)
    arrays = [rng.normal(size=shape) for shape in shapes]
    gradcheck(lambda *x: Tensor.einsum(formula, *x), arrays, order=2, device="ref")


EINSUM_FAULTS = {
    "ij,jk->ik": (((3, 4), (5, 5)), "   ^", "size 4 for 'j' of operand 1"),
    "ij,jk->il": (((3, 4), (4, 5)), "        ^", "names of the operands"),
    "ij,jk->ii": (((3, 4), (4, 5)), "        ^", "once in the result"),
    "ij;jk": (((3, 4), (4, 5)), "  ^", "letters"),
    "ijk,j": (((3, 4), (4,)), "^^^", "2 names for operand 0"),
    "i,->i": (((3,), (3,)), "  ^", "1 names for operand 1"),
    "i->j->k": (((3,),), "    ^^", "one arrow"),
    "ij->i,j": (((3, 4),), "     ^", "one result"),
    "....i": (((3,),), "   ^", "letters"),
    "......i": (((3,),), "   ^^^", "once for an operand"),
    "...i,...i": (((2, 3), (4, 3)), "     ^^^", "size 2 for '...'"),
}


@pytest.mark.parametrize("formula", EINSUM_FAULTS)
def test_einsum_points_at_the_fault(formula):
    shapes, marks, text = EINSUM_FAULTS[formula]
    with pytest.raises(ShapeError) as caught:
        Tensor.einsum(formula, *[Tensor.ones(*shape) for shape in shapes])
    assert str(caught.value).splitlines()[-2:] == [f"    {formula}", f"    {marks}"]
    assert text in str(caught.value)


def test_einsum_refuses():
    with pytest.raises(ShapeError, match="2 operands"):
        Tensor.einsum("i,i", Tensor.ones(3))
    with pytest.raises(DTypeError, match="formula"):
        Tensor.einsum(Tensor.ones(3))
    with pytest.raises(DTypeError, match="at least one operand"):
        Tensor.einsum("i")
    with pytest.raises(MixedDevices, match="einsum"):
        Tensor.einsum("i,i", Tensor.ones(3, device="ref"), Tensor.ones(3, device="cpu"))


# ---- rearrange ---------------------------------------------------------------------------------------------
ARRANGED = {
    "b (h w) c -> b c h w": ({"h": 4}, lambda a: a.reshape(2, 4, 3, 3).transpose(0, 3, 1, 2)),
    "... c -> c ...": ({}, lambda a: a.transpose(2, 0, 1)),
    "a ... -> a (...)": ({}, lambda a: a.reshape(2, 36)),
    "a b c -> b 1 (c a)": ({}, lambda a: a.transpose(1, 2, 0).reshape(12, 1, 6)),
    "a b c -> (a b) () c": ({}, lambda a: a.reshape(24, 1, 3)),
    "(a z) ... -> z a ...": ({"a": 1}, lambda a: a.reshape(2, 1, 12, 3)),
    "a b ... c -> c ... a b": ({}, lambda a: a.transpose(2, 0, 1)),
}


@pytest.mark.usefixtures("on_ref")
@pytest.mark.parametrize("formula", ARRANGED)
def test_rearrange(formula):
    sizes, expected = ARRANGED[formula]
    array = normal(2, 12, 3)
    np.testing.assert_array_equal(Tensor(array).rearrange(formula, **sizes).numpy(), expected(array))


REARRANGE_FAULTS = {
    "b h c -> b c": ({}, "  ^", "both sides"),
    "b (h w) c -> b c h w": ({}, "     ^", "all but one"),
    "b (h w) c -> b h w c": ({"h": 5}, "   ^", "product is 12"),
    "b b c -> b c b": ({}, "  ^", "once on each side"),
    "b c -> c b": ({}, "^^^", "3 axes"),
    "b ((h) w) c -> b h": ({}, "   ^", "not nested"),
    "b h c": ({}, "     ^", "one '->'"),
    "b -> c -> d": ({}, "       ^^", "one '->'"),
    "b (h w c -> b h": ({}, "  ^", "closing parenthesis"),
    "b ? c -> b c": ({}, "  ^", "names"),
}


@pytest.mark.parametrize("formula", REARRANGE_FAULTS)
def test_rearrange_points_at_the_fault(formula):
    sizes, marks, text = REARRANGE_FAULTS[formula]
    with pytest.raises(ShapeError) as caught:
        Tensor.ones(2, 12, 3).rearrange(formula, **sizes)
    assert str(caught.value).splitlines()[-2:] == [f"    {formula}", f"    {marks}"]
    assert text in str(caught.value)


def test_rearrange_refuses_sizes_of_unknown_names():
    with pytest.raises(ShapeError, match="q"):
        Tensor.ones(2, 3).rearrange("a b -> b a", q=2)

"""Linear algebra against NumPy: values, shapes, dtypes, gradients, errors, replays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pluggrad import Tensor, dtypes, jit, jvp, vmap
from pluggrad.errors import DTypeError, GradientError, LinearAlgebraError, ShapeError, ValueRangeError
from pluggrad.testing.gradcheck import gradcheck

RNG = np.random.default_rng(11)


def normal(*shape, dtype=np.float32):
    return RNG.normal(size=shape).astype(dtype)


SQUARE, RIGHT, TALL, WIDE = normal(2, 4, 4), normal(2, 4, 3), normal(2, 5, 3), normal(2, 3, 5)
POSITIVE = SQUARE @ SQUARE.swapaxes(-1, -2) + np.eye(4, dtype=np.float32)


def close(ours, expected, tolerance=2e-4):
    assert ours.shape == np.shape(expected)
    np.testing.assert_allclose(ours.numpy(), expected, tolerance, tolerance)


@pytest.fixture
def on_ref(monkeypatch):
    """The device that compiles nothing, for what no device computes."""
    from pluggrad import Device

    monkeypatch.setattr(Device, "DEFAULT", "ref")


# ---- values ------------------------------------------------------------------------------------------------
VALUES = {
    "inv": (lambda t: t.inv(), np.linalg.inv, SQUARE),
    "det": (lambda t: t.det(), np.linalg.det, SQUARE),
    "sign": (lambda t: t.slogdet().sign, lambda a: np.linalg.slogdet(a)[0], SQUARE),
    "logabsdet": (lambda t: t.slogdet().logabsdet, lambda a: np.linalg.slogdet(a)[1], SQUARE),
    "logdet": (lambda t: t.logdet(), lambda a: np.linalg.slogdet(a)[1], POSITIVE),
    "cholesky": (lambda t: t.cholesky(), np.linalg.cholesky, POSITIVE),
    "upper cholesky": (lambda t: t.cholesky(upper=True).mT, np.linalg.cholesky, POSITIVE),
    "svdvals": (lambda t: t.svdvals(), lambda a: np.linalg.svd(a, compute_uv=False), TALL),
    "eigvalsh": (lambda t: t.eigvalsh(), np.linalg.eigvalsh, POSITIVE),
    "eigvalsh of the upper triangle": (lambda t: t.triu().eigvalsh("U"), np.linalg.eigvalsh, POSITIVE),
    "pinv": (lambda t: t.pinv(), np.linalg.pinv, TALL),
    "matrix_rank": (lambda t: t.matrix_rank(), np.linalg.matrix_rank, TALL),
    "cond": (lambda t: t.cond(), np.linalg.cond, TALL),
    "cond 1": (lambda t: t.cond(1), lambda a: np.linalg.cond(a, 1), SQUARE),
    "cond -2": (lambda t: t.cond(-2), lambda a: np.linalg.cond(a, -2), SQUARE),
    **{f"power {n}": (lambda t, n=n: t.matrix_power(n), lambda a, n=n: np.linalg.matrix_power(a, n), POSITIVE)
       for n in (0, 1, 2, 5, -1, -2)},
    **{f"norm {ord}": (lambda t, ord=ord: t.matrix_norm(ord),
                       lambda a, ord=ord: np.linalg.norm(a, ord, (-2, -1)), TALL)
       for ord in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)},
    "norm of other axes": (lambda t: t.matrix_norm(1, (2, 0), keepdim=True),
                           lambda a: np.linalg.norm(a, 1, (2, 0), keepdims=True), TALL),
    **{f"vector norm {ord}": (lambda t, ord=ord: t.vector_norm(ord, -1),
                              lambda a, ord=ord: np.linalg.norm(a, ord, -1), TALL)
       for ord in (0, 0.5, 1, 2, 3, -1, math.inf, -math.inf)},
}


@pytest.mark.usefixtures("on_ref")
@pytest.mark.parametrize("name", VALUES)
def test_values(name):
    ours, numpys, array = VALUES[name]
    close(ours(Tensor(array)), numpys(array), 2e-3)


@pytest.mark.usefixtures("device")
def test_on_each_device():
    """What the host computes goes to and from the device, between kernels and through views."""
    a, b = Tensor(SQUARE), Tensor(RIGHT)
    close((a.mT * 2).solve(b + 1) - 1, np.linalg.solve(SQUARE.swapaxes(-1, -2) * 2, RIGHT + 1) - 1, 2e-3)
    close(a[1].inv(), np.linalg.inv(SQUARE[1]), 2e-3)


@pytest.mark.usefixtures("on_ref")
def test_solve():
    a, b = Tensor(SQUARE), Tensor(RIGHT)
    close(a.solve(b), np.linalg.solve(SQUARE, RIGHT), 2e-3)
    close(a.solve(RIGHT[0]), np.linalg.solve(SQUARE, RIGHT[0]), 2e-3)
    close(a[0].solve(b), np.linalg.solve(SQUARE[0], RIGHT), 2e-3)
    close(a.solve(b[0, :, 0]), np.linalg.solve(SQUARE, RIGHT[0])[..., 0], 2e-3)
    close(a.solve(b.mT, left=False) @ a, RIGHT.swapaxes(1, 2), 2e-3)


@pytest.mark.usefixtures("on_ref")
@pytest.mark.parametrize("upper", [True, False])
def test_triangles(upper):
    triangle = np.triu(POSITIVE) if upper else np.tril(POSITIVE)
    a, b = Tensor(POSITIVE), Tensor(RIGHT)
    close(a.solve_triangular(b, upper=upper), np.linalg.solve(triangle, RIGHT))
    close(a.solve_triangular(b.mT, upper=upper, left=False) @ Tensor(triangle), RIGHT.swapaxes(1, 2))
    ones = triangle.copy()
    ones[:, range(4), range(4)] = 1
    close(a.solve_triangular(b, upper=upper, unitriangular=True), np.linalg.solve(ones, RIGHT), 2e-3)


@pytest.mark.usefixtures("on_ref")
@pytest.mark.parametrize("array", [SQUARE, TALL, WIDE], ids=["square", "tall", "wide"])
def test_factorizations(array):
    t, (m, n) = Tensor(array), array.shape[-2:]
    for mode, inner in (("reduced", min(m, n)), ("complete", m)):
        q, r = t.qr(mode)
        assert (q.shape, r.shape) == ((2, m, inner), (2, inner, n))
        close(q @ r, array)
        close(q.mT @ q, np.broadcast_to(np.eye(inner), (2, inner, inner)))
        close(r.tril(-1), np.zeros(r.shape))
    for full in (True, False):
        u, s, vh = t.svd(full_matrices=full)
        assert (u.shape[-1], vh.shape[-2]) == ((m, n) if full else (min(m, n),) * 2)
        close(u[..., :min(m, n)] * s.unsqueeze(-2) @ vh[:, :min(m, n)], array)
    assert t.svd().U.shape == (2, m, m)


@pytest.mark.usefixtures("on_ref")
def test_eigh():
    values, vectors = Tensor(POSITIVE).eigh()
    close(vectors * values.unsqueeze(-2) @ vectors.mT, POSITIVE, 1e-3)
    assert (np.diff(values.numpy()) > 0).all()


@pytest.mark.usefixtures("on_ref")
def test_lstsq():
    b = normal(2, 5, 2)
    found = Tensor(TALL).lstsq(b)
    for i in range(2):
        for ours, expected in zip(found, np.linalg.lstsq(TALL[i], b[i], rcond=None), strict=True):
            close(ours[i], expected)
    close(Tensor(TALL[0]).lstsq(b[0, :, 0]).solution, np.linalg.lstsq(TALL[0], b[0, :, 0], rcond=None)[0])
    wide = Tensor(WIDE).lstsq(normal(2, 3, 2))
    assert (wide.solution.shape, wide.residuals.shape) == ((2, 5, 2), (2, 0))


@pytest.mark.usefixtures("on_ref")
def test_ranks_and_tolerances():
    deficient = np.ones((3, 4), np.float32)
    assert Tensor(deficient).matrix_rank().item() == 1
    assert Tensor(np.diag([1, 1e-3, 1e-5])).matrix_rank(atol=1e-4).item() == 2
    close(Tensor(deficient).pinv(), np.linalg.pinv(deficient))
    close(Tensor(np.diag([1, 1e-3]).astype(np.float32)).pinv(rtol=0.1), np.diag([1, 0]))


@pytest.mark.usefixtures("on_ref")
def test_matrix_exp():
    turn = np.array([[0, -2], [2, 0]], np.float64)
    close(Tensor(turn).matrix_exp(), [[math.cos(2), -math.sin(2)], [math.sin(2), math.cos(2)]], 1e-12)
    diagonal = np.stack([np.diag(x) for x in ([1.0, -30.0], [0.0, 1e-9])])
    close(Tensor(diagonal).matrix_exp(), np.exp(diagonal) * np.eye(2), 1e-12)


@pytest.mark.usefixtures("on_ref")
@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("name", ["inv", "det", "slogdet", "cholesky", "qr", "svd", "svdvals", "eigh", "pinv",
                                  "matrix_exp"])
def test_small_shapes(name, shape):
    """No elements and one: NumPy's shapes, and a gradient."""
    t = Tensor(np.ones(shape, np.float32))
    found = getattr(t, name)()
    parts = found if isinstance(found, tuple) else (found,)
    assert all(np.isfinite(part.numpy()).all() for part in parts)
    assert parts[-1].sum().gradient(t)[0].numpy().shape == shape


@pytest.mark.usefixtures("on_ref")
def test_dtypes():
    for dtype, expected in (("float64", "float64"), ("float16", "float16"), ("bfloat16", "bfloat16"),
                            ("int32", "float32"), ("bool", "float32")):
        t = Tensor(np.eye(3)).cast(dtype)
        for found in (t.inv(), t.solve(t), t.svd().S, t.det(), t.eigh().eigenvalues, t.matrix_norm("nuc")):
            assert found.dtype.name == expected
    assert Tensor(np.eye(2)).solve(Tensor(np.eye(2, dtype=np.float32))).dtype is dtypes.float64
    fibonacci = Tensor([[1, 1], [1, 0]]).matrix_power(30)
    assert (fibonacci.dtype, fibonacci[0, 0].item()) == (dtypes.default_int, 1346269)


# ---- gradients ---------------------------------------------------------------------------------------------
def symmetric(function):
    return lambda x: function((x + x.mT) / 2)


def positive(function):
    return lambda x: function(x @ x.mT + Tensor.eye(x.shape[-1], dtype="float64", device=x.device))


GRADIENTS = {
    "inv": (lambda x: x.inv(), [(2, 3, 3)]),
    "solve": (lambda x, y: x.solve(y), [(2, 3, 3), (3, 2)]),
    "det": (lambda x: x.det(), [(2, 3, 3)]),
    "logabsdet": (lambda x: x.slogdet().logabsdet, [(3, 3)]),
    "cholesky": (positive(lambda x: x.cholesky()), [(3, 3)]),
    "solve_triangular": (lambda x, y: x.solve_triangular(y, upper=True), [(2, 2), (2, 1)]),
    "square qr": (lambda x: x.qr(), [(3, 3)]),
    "tall qr": (lambda x: x.qr(), [(2, 4, 2)]),
    "wide qr": (lambda x: x.qr(), [(2, 3)]),
    "square svd": (lambda x: x.svd(), [(3, 3)]),
    "tall svd": (lambda x: x.svd(full_matrices=False), [(4, 2)]),
    "wide svd": (lambda x: x.svd(full_matrices=False), [(2, 3)]),
    "svdvals": (lambda x: x.svdvals(), [(3, 2)]),
    "eigh": (symmetric(lambda x: x.eigh()), [(3, 3)]),
    "eigvalsh": (symmetric(lambda x: x.eigvalsh()), [(2, 3, 3)]),
    "tall pinv": (lambda x: x.pinv(), [(3, 2)]),
    "wide pinv": (lambda x: x.pinv(), [(2, 3)]),
    "lstsq": (lambda x, y: x.lstsq(y).solution, [(3, 2), (3,)]),
    "matrix_exp": (lambda x: x.matrix_exp(), [(2, 2, 2)]),
    "negative power": (lambda x: x.matrix_power(-2), [(2, 2)]),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name):
    """First and second order, by finite differences."""
    function, shapes = GRADIENTS[name]
    arrays = [np.random.default_rng([3, *map(ord, name)]).normal(size=shape) for shape in shapes]
    gradcheck(function, arrays, order=2, rtol=1e-4, atol=1e-5, device="ref")


@pytest.mark.usefixtures("on_ref")
def test_the_determinant_of_singular_matrices_has_a_gradient():
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    t = Tensor(singular)
    close(t.det().gradient(t)[0], [[4, -2], [-2, 1]], 1e-12)


@pytest.mark.usefixtures("on_ref")
def test_norms_have_gradient_zero_at_zero():
    for ord in (1, 2, 3):
        t = Tensor(np.zeros(3, np.float32))
        close(t.norm(ord).gradient(t)[0], np.zeros(3))


@pytest.mark.usefixtures("on_ref")
def test_what_is_stored_on_the_way_keeps_its_history():
    x = Tensor(SQUARE[0], requires_grad=True)
    doubled = x * 2
    inverse = doubled.inv().realize()
    doubled.realize()
    close(doubled.sum().gradient(x)[0], np.full((4, 4), 2.0))
    close(inverse.sum().gradient(x)[0], -2 * np.outer(*[np.linalg.inv(2 * SQUARE[0]).sum(i) for i in (0, 1)]))


@pytest.mark.usefixtures("on_ref")
def test_results_of_one_call_are_computed_together(monkeypatch):
    from pluggrad.runtime import lapack

    calls = []
    monkeypatch.setattr(lapack, "call", lambda call, arrays, original=lapack.call:
                        calls.append(call.function) or original(call, arrays))
    t = Tensor(TALL)
    u, s, vh = t.svd()
    s.realize()
    (u.sum() + vh.sum()).item()
    s.sum().gradient(t)[0].realize()
    assert calls == ["svd"]


@pytest.mark.usefixtures("on_ref")
def test_transformations():
    """A stack of calls, one by one and at once; a derivative along a direction."""
    stack, right = SQUARE.astype(np.float64), RIGHT[0].astype(np.float64)
    close(vmap(lambda a: a.solve(Tensor(right)))(Tensor(stack)), np.linalg.solve(stack, right), 1e-9)
    close(vmap(lambda a: a.svd(False).S)(Tensor(stack)), np.linalg.svd(stack, compute_uv=False), 1e-9)
    inverse = np.linalg.inv(stack[0])
    _, along = jvp(lambda a: a.inv(), (Tensor(stack[0]),), (Tensor(np.eye(4)),))
    close(along, -inverse @ inverse, 1e-9)


# ---- jit ---------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("device")
def test_replays_compute_anew():
    @jit
    def function(a, b):
        return a.solve(b), (a @ a.mT).eigh(), a.det() + 1

    for _ in range(3):
        a, b = normal(3, 3, dtype=np.float64), normal(3, 2, dtype=np.float64)
        x, e, d = function(Tensor(a), Tensor(b))
        close(x, np.linalg.solve(a, b), 1e-9)
        close(e.eigenvalues, np.linalg.eigvalsh(a @ a.T), 1e-9)
        close(d, np.linalg.det(a) + 1, 1e-9)
    with pytest.raises(LinearAlgebraError, match=r"solve.*singular"):
        function(Tensor(np.zeros((3, 3))), Tensor(b))
    assert function.captures == 1


# ---- errors ------------------------------------------------------------------------------------------------
ONE_SINGULAR = np.stack([np.eye(3), np.zeros((3, 3)), np.eye(3)]).astype(np.float32)
REFUSED = {
    "singular": (lambda: Tensor(np.zeros((2, 2))).inv().numpy(), LinearAlgebraError, "inv.*singular"),
    "which one": (lambda: Tensor(ONE_SINGULAR).inv().numpy(), LinearAlgebraError, r"singular.*\(1,\)"),
    "solve": (lambda: Tensor(ONE_SINGULAR).solve(ONE_SINGULAR).numpy(), LinearAlgebraError, r"\(1,\)"),
    "not positive": (lambda: Tensor(-np.eye(2)).cholesky().numpy(), LinearAlgebraError, "positive definite"),
    "NaN": (lambda: Tensor(np.full((3, 3), np.nan)).svdvals().numpy(), LinearAlgebraError, "converge"),
    "not square": (lambda: Tensor(TALL).inv(), ShapeError, "square"),
    "a vector": (lambda: Tensor([1.0, 2.0]).det(), ShapeError, "matrices"),
    "right side": (lambda: Tensor(SQUARE).solve(normal(2, 3, 1)), ShapeError, "solve.*right side"),
    "right side of lstsq": (lambda: Tensor(TALL).lstsq(normal(4)), ShapeError, "lstsq.*right side"),
    "mode": (lambda: Tensor(TALL).qr("economic"), ValueRangeError, "mode"),
    "UPLO": (lambda: Tensor(SQUARE).eigh("X"), ValueRangeError, "UPLO"),
    "ord": (lambda: Tensor(SQUARE).matrix_norm(3), ValueRangeError, "ord"),
    "norm": (lambda: Tensor(SQUARE).norm("nuc"), ValueRangeError, "matrix_norm"),
    "one axis twice": (lambda: Tensor(SQUARE).matrix_norm(dim=(1, 1)), ShapeError, "different axes"),
    "power": (lambda: Tensor(SQUARE).matrix_power(0.5), DTypeError, "integer power"),
    "complete qr": (lambda: (lambda t: t.qr("complete").Q.sum().gradient(t))(Tensor(TALL)), GradientError,
                    "reduced"),
}


@pytest.mark.usefixtures("on_ref")
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        call()

"""Every gradient rule against finite differences in float64, first and second order, through the graph
evaluator.
"""

from __future__ import annotations

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, runtime
from pluggrad.autograd import RULES
from pluggrad.graph import build, ops
from pluggrad.ir.walk import toposort
from tests.graph_reference import evaluate

RNG = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def _on_the_reference_device():
    with pluggrad.device("ref"):
        yield


def sample(*shape, low=-2.0, high=2.0):
    return RNG.uniform(low, high, shape)


def away_from(values, kinks=(0.0,), distance=0.05):
    for kink in kinks:
        values = np.where(abs(values - kink) < distance, kink + 3 * distance, values)
    return values


def positive(*shape):
    return sample(*shape, low=0.3, high=3.0)


def updated(base, value):
    result = base * 1
    result[1:, ::-2] = value
    return result


def written_twice(x, y):
    x = x * 1
    x[0] = y
    x.T[0] = y[:2] * y[:2]
    return x


def folded(x, shape, *rows):
    return x._new(build.fold(x.node, rows, shape))


def windows(x, *rows):
    return x._new(build.window(x.node, rows))


ROWS = np.array([[2, 0, -3, 1], [0, 1, 0, 1]])  # of three rows; column 1 meets in one element


def gathered(x):
    return x._new(build.gather(x.node, Tensor(ROWS).node, 0))


def scattered(mode):
    def function(base, value):
        view = (("flip", (1,)),)
        return base._new(build.scatter(base.node, Tensor(ROWS).node, value.node, 0, mode, view))

    return function


def set_rows(x, y):
    x = x * 1
    x[Tensor([2, -1])] = y
    return x


def set_mask(x, y):
    x = x * 1
    x[x > 0.5] = y
    return x


X, Y = away_from(sample(3, 4)), away_from(sample(3, 4))
# name -> (function, float64 arguments, ops it must go through)
CASES = {
    "neg": (lambda x: -x, [X], {ops.NEG}),
    "abs": (lambda x: x.abs(), [X], {ops.ABS}),
    "reciprocal": (lambda x: x.reciprocal(), [X], {ops.RECIP}),
    "sqrt": (lambda x: x.sqrt(), [positive(5)], {ops.SQRT}),
    "exp": (lambda x: x.exp(), [X], {ops.EXP}),
    "exp2": (lambda x: x.exp2(), [X], {ops.EXP2}),
    "log": (lambda x: x.log(), [positive(5)], {ops.LOG}),
    "log2": (lambda x: x.log2(), [positive(5)], {ops.LOG2}),
    "sin": (lambda x: x.sin(), [X], {ops.SIN}),
    "cos": (lambda x: x.cos(), [X], {ops.COS}),
    "tanh": (lambda x: x.tanh(), [X], {ops.TANH}),
    "erf": (lambda x: x.erf(), [X], {ops.ERF}),
    "add": (lambda x, y: x + y, [X, Y], {ops.ADD}),
    "sub": (lambda x, y: x - y, [X, Y], {ops.SUB}),
    "mul": (lambda x, y: x * y, [X, Y], {ops.MUL}),
    "mul self": (lambda x: x * x * x, [X], {ops.MUL}),
    "div": (lambda x, y: x / y, [X, Y], {ops.DIV}),
    "mod": (lambda x, y: x % y, [np.array([5.3, -4.1]), np.array([2.0, 1.5])], {ops.MOD}),
    "pow": (lambda x, y: x ** y, [positive(3, 4), Y], {ops.POW}),
    "pow negative base": (lambda x: x.pow(Tensor(np.array([2.0, 3.0]))), [np.array([-1.5, -0.7])], {ops.POW}),
    "max": (lambda x, y: x.maximum(y), [X, Y], {ops.MAX}),
    "min": (lambda x, y: x.minimum(y), [X, Y], {ops.MIN}),
    "where": (lambda x, y: (x > y).where(x * y, y), [X, Y], {ops.WHERE}),
    "cast": (lambda x: x.cast("float64") * 2, [X], set()),
    "barrier": (lambda x, y: x._new(build.barrier(x.node, y.node)) * y, [X, Y], {ops.BARRIER}),
    "broadcast": (lambda x, y: x * y, [sample(3, 1, 2), sample(4, 1)], {ops.EXPAND, ops.RESHAPE}),
    "sum": (lambda x: x.sum(0) * x.sum((0, 1)), [X], {ops.SUM}),
    "prod": (lambda x: x.prod(1), [X], {ops.PROD}),
    "prod of axes": (lambda x: x.prod((0, 2)), [sample(3, 2, 5)], {ops.PROD}),
    "prod with one zero": (lambda x: x.prod(), [np.array([2.0, 0.0, -3.0, 0.5, 1.5])], {ops.PROD}),
    "prod with two zeros": (lambda x: x.prod(), [np.array([2.0, 0.0, -3.0, 0.0, 1.5])], {ops.PROD}),
    "max over axes": (lambda x: x.max(1), [X], {ops.RMAX}),
    "min over all": (lambda x: x.min(), [X], {ops.RMIN}),
    "cumsum": (lambda x: x.cumsum(1) ** 2, [X], {ops.SCAN}),
    "cumprod": (lambda x: x.cumprod(0), [sample(7, 2)], {ops.SCAN}),
    "cumprod with zeros": (lambda x: x.cumprod(-1), [np.array([[2.0, 0.0, -3.0, 0.0, 1.5], [1, 2, 0, 3, 4]])],
                           {ops.SCAN}),
    "cummax": (lambda x: x.cummax(1)[0] ** 2, [X], {ops.SCAN}),
    "cummin": (lambda x: x.cummin(0)[0] ** 2, [X], {ops.SCAN}),
    "logcumsumexp": (lambda x: x.logcumsumexp(1), [X], set()),
    "sort": (lambda x: x.sort(0, descending=True)[0] ** 2 * Tensor(Y), [X], {ops.GATHER}),
    "topk": (lambda x: x.topk(2, largest=False)[0] ** 2, [X], {ops.GATHER}),
    "reshape": (lambda x: x.reshape(2, 6) ** 2, [X], {ops.RESHAPE}),
    "permute": (lambda x: x.permute(2, 0, 1) ** 2, [sample(2, 3, 4)], {ops.PERMUTE}),
    "expand": (lambda x: x.expand(3, 4) ** 2, [sample(3, 1)], {ops.EXPAND}),
    "slice": (lambda x: x[1:, 1:3] ** 2, [X], {ops.SLICE}),
    "strided slice": (lambda x: x[::2, ::3] ** 2, [X], {ops.SLICE}),
    "flip": (lambda x: x.flip(1) ** 2 * Tensor(Y), [X], {ops.FLIP}),
    "pad": (lambda x: (x.pad(((1, 2), (0, 1))) + 1) ** 2, [X], {ops.PAD}),
    "window": (lambda x: windows(x, (0, 3, 1, 1)) ** 2, [sample(6, 2)], {ops.WINDOW}),
    "strided windows": (lambda x: windows(x, (1, 3, 2, 1), (0, 2, 3, 2)) ** 2, [sample(7, 8)], {ops.WINDOW}),
    "windows with gaps": (lambda x: windows(x, (0, 2, 3, 1)) ** 2, [sample(9)], {ops.WINDOW}),
    "dilated strided windows": (lambda x: windows(x, (0, 3, 4, 2)) ** 2, [sample(15)], {ops.WINDOW}),
    "fold": (lambda x: folded(x, (9, 2), (0, 3, 2, 1)) ** 2, [sample(4, 2, 3)], {ops.FOLD}),
    "fold of two axes": (lambda x: folded(x, (5, 9), (1, 3, 3, 2), (0, 2, 1, 1)) ** 2, [sample(4, 2, 3, 2)],
                         {ops.FOLD}),
    "skew": (lambda x: x._new(build.skew(x.node, [(0, 2, 2, 1, 5), (1, 3, -1, 0, 3)])) ** 2,
             [sample(4, 3, 2, 2)], {ops.SKEW}),
    "setitem": (lambda x, y: updated(x, y) ** 2, [X, sample(2, 2)], {ops.UPDATE}),
    "setitem twice": (lambda x, y: written_twice(x, y) ** 2, [sample(2, 3), sample(3)], {ops.UPDATE}),
    "cat": (lambda x, y: x.cat(y, dim=1) ** 2, [X, sample(3, 2)], {ops.UPDATE}),
    "stack": (lambda x, y: Tensor.stack(x, y, dim=1) ** 2, [X, Y], {ops.UPDATE}),
    "gather": (lambda x: gathered(x) ** 2, [X], {ops.GATHER}),
    **{f"scatter {mode}": (lambda x, y, mode=mode: scattered(mode)(x, y) ** 2, [X, sample(2, 4)],
                           {ops.SCATTER}) for mode in ("SET", "ADD", "MUL", "MAX", "MIN")},
    "gather one": (lambda x: x.gather(1, Tensor([[2], [-1], [0]])) ** 2, [X], {ops.GATHER}),
    "gather one, in range": (lambda x: x.gather(1, [[2], [-1], [0]]) ** 2, [X], {ops.GATHER}),
    "scatter_reduce mean": (lambda x, y: x.scatter_reduce(0, Tensor(ROWS), y, "mean", False) ** 2,
                            [X, sample(2, 4)], {ops.SCATTER}),
    "getitem of two": (lambda x: x[Tensor([0, 2, 0]), Tensor([1, 3, 1])] ** 2, [X], {ops.GATHER}),
    "setitem at rows": (lambda x, y: set_rows(x, y) ** 2, [X, sample(2, 4)], {ops.SCATTER}),
    "setitem at a mask": (lambda x, y: set_mask(x, y) ** 2, [X, sample(1)], {ops.WHERE}),
    "embedding": (lambda x: Tensor(ROWS).embedding(x) ** 2, [X], {ops.GATHER}),
    "contiguous": (lambda x: (x * 2).contiguous() ** 2, [X], {ops.CONTIGUOUS}),
    "matmul": (lambda x, y: x @ y, [sample(2, 3, 4), sample(4, 5)], {ops.SUM, ops.MUL}),
    "softmax": (lambda x: x.softmax(1) * Tensor(Y), [X], set()),
    "log_softmax": (lambda x: x.log_softmax(0) * Tensor(Y), [X], set()),
    "logsumexp": (lambda x: x.logsumexp(1), [X], set()),
    "layernorm": (lambda x: x.layernorm() * Tensor(Y), [X], set()),
    "var": (lambda x: x.var(1), [X], set()),
    "std": (lambda x: x.std(), [X], set()),
    "mean": (lambda x: x.mean(0) ** 2, [X], set()),
    "sigmoid": (lambda x: x.sigmoid(), [np.array([-3.0, 0.0, 2.0])], set()),
    "softplus": (lambda x: x.softplus(2.0), [np.array([-3.0, 0.0, 2.0])], set()),
    "logsigmoid": (lambda x: x.logsigmoid(), [X], set()),
    "gelu": (lambda x: x.gelu() + x.gelu("none"), [X], set()),
    "silu": (lambda x: x.silu() + x.mish(), [X], set()),
    "elu": (lambda x: x.elu() + x.selu() + x.celu(2.0), [X], set()),
    "leaky_relu": (lambda x: x.leaky_relu() * x.relu(), [X], set()),
    "clamp": (lambda x: x.clamp(-1, 1) ** 2, [away_from(X, (-1.0, 1.0))], set()),
    "expm1": (lambda x: x.expm1(), [np.array([-1e-9, 0.0, 1e-3, 1.0, -2.0])], set()),
    "log1p": (lambda x: x.log1p(), [np.array([-1e-9, 0.0, 1e-3, 1.0])], set()),
    "tan": (lambda x: x.tan(), [sample(4, low=-1, high=1)], set()),
    "atan": (lambda x: x.atan(), [np.array([-20.0, -1.2, -0.4, 0.0, 0.3, 1.0001, 50.0])], set()),
    "atan2": (lambda x, y: x.atan2(y), [X, Y], set()),
    "asin": (lambda x: x.asin() * x.acos(), [sample(4, low=-0.9, high=0.9)], set()),
    "hyperbolic": (lambda x: x.sinh() + x.cosh() * x.tanh(), [np.array([-1.0, 0.0, 1e-3, 2.0])], set()),
    "inverse hyperbolic": (lambda x: x.asinh() + x.atanh(), [np.array([-0.7, 0.0, 1e-3, 0.5])], set()),
    "acosh": (lambda x: x.acosh(), [positive(3) + 1], set()),
    "logaddexp": (lambda x, y: x.logaddexp(y), [X, Y], set()),
    "hypot": (lambda x, y: x.hypot(y), [X, Y], set()),
    "norm": (lambda x: x.norm() + x.norm(3, 1).sum(), [X], set()),
    "cross_entropy": (lambda x: x.cross_entropy(Tensor([1, 0, 3]), label_smoothing=0.1), [X], set()),
    "bce": (lambda x: x.binary_crossentropy_logits(Tensor(np.round(abs(Y) % 1))), [X], set()),
    "huber": (lambda x: x.huber_loss(Tensor(Y)), [X], set()),
    "tril": (lambda x: x.tril() * x.diagonal().sum(), [X], set()),
    "roll": (lambda x: x.roll(1, 1) * x, [X], set()),
    "reflect": (lambda x: x.pad((2, 1), "reflect") ** 2, [X], set()),
    "repeat": (lambda x: x.repeat(2, 1) ** 2 * x.repeat_interleave(2, 0), [X], set()),
}
NOT_DIFFERENTIATED_HERE = {
    ops.LEAF,
    ops.COPY,
    ops.CAST,
}  # identity, between devices, between float dtypes: below


def value(node):
    return evaluate(node, runtime.read)


def slope(function, arguments, position, seed, step=1e-5):
    """The gradient of sum(function * seed) at one argument, by central differences."""
    base = [np.array(a, dtype=np.float64) for a in arguments]
    result = np.zeros_like(base[position])
    for place in np.ndindex(result.shape):
        sides = []
        for sign in (1, -1):
            moved = [a.copy() for a in base]
            moved[position][place] += sign * step
            sides.append(np.sum(function(moved) * seed))
        result[place] = (sides[0] - sides[1]) / (2 * step)
    return result


@pytest.mark.parametrize("name", CASES)
def test_first_order(name):
    function, arguments, expected_ops = CASES[name]
    tensors = [Tensor(a) for a in arguments]
    root = function(*tensors)
    assert expected_ops <= {n.op for n in toposort([root.node])}
    seed = sample(*root.shape)
    gradients = root.gradient(*tensors, gradient=Tensor(seed))
    for position, gradient in enumerate(gradients):
        numeric = slope(lambda a: value(function(*map(Tensor, a)).node), arguments, position, seed)
        assert gradient.shape == arguments[position].shape
        np.testing.assert_allclose(value(gradient.node), numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_second_order(name):
    function, arguments, _ = CASES[name]
    first_seed = sample(*function(*map(Tensor, arguments)).shape)

    def first_gradients(tensors):
        return function(*tensors).gradient(*tensors, gradient=Tensor(first_seed))

    def weighted(tensors, weights):
        parts = [(g * Tensor(w)).sum() for g, w in zip(first_gradients(tensors), weights, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    weights = [sample(*a.shape) for a in arguments]
    tensors = [Tensor(a) for a in arguments]
    total = weighted(tensors, weights)
    for position, tensor in enumerate(tensors):
        numeric = slope(
            lambda a: value(weighted([Tensor(x) for x in a], weights).node), arguments, position, 1.0
        )
        try:
            (gradient,) = total.gradient(tensor)
        except (
            pluggrad.errors.GradientError
        ):  # linear in this argument: the first gradient does not depend on it
            exact = np.zeros_like(numeric)
        else:
            exact = value(gradient.node)
        np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-6)


def test_every_rule_is_tested():
    seen = set().union(*[expected for _, _, expected in CASES.values()])
    assert set(RULES) - NOT_DIFFERENTIATED_HERE == seen & set(RULES)


def test_third_order():
    x = Tensor(np.array([0.7, -1.3]))
    y = x.sin() * x
    for _ in range(3):
        (y,) = y.sum().gradient(x)
    v = np.array([0.7, -1.3])
    np.testing.assert_allclose(value(y.node), -3 * np.sin(v) - v * np.cos(v), rtol=1e-10)


def test_conventions_at_kinks():
    zero = np.zeros(3)
    for function, expected in (
        (lambda x: x.abs(), 0),
        (lambda x: x.relu(), 0),
        (lambda x: x.sign(), 0),
        (lambda x: x.maximum(0.0), 0.5),
        (lambda x: x.minimum(x * 2), 1.5),
        (lambda x: x.clamp(0, 1), 1),
        (lambda x: x ** Tensor(zero), 0),
        (lambda x: x.max().expand(3), 1),
        (lambda x: x.leaky_relu(), 1),
        (lambda x: x.elu(), 1),
    ):
        x = Tensor(zero)
        result = function(x).sum()
        try:
            gradient = value(result.gradient(x)[0].node)
        except pluggrad.errors.GradientError:
            gradient = zero
        np.testing.assert_allclose(gradient, np.full(3, expected))
    y = Tensor(np.array([2.0, 0.0]))
    (gradient,) = (Tensor(np.zeros(2)) ** y).sum().gradient(y)
    np.testing.assert_array_equal(value(gradient.node), [0, 0])


def test_max_over_an_axis_splits_between_equals():
    x = Tensor(np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]))
    (gradient,) = x.max(1).sum().gradient(x)
    np.testing.assert_allclose(value(gradient.node), [[0, 0.5, 0.5], [1 / 3] * 3])


def test_gradients_stay_finite_where_the_function_is_flat():
    x = Tensor(np.array([-1000.0, -90.0, 0.0, 90.0, 1000.0], np.float32))
    for function in (
        Tensor.sigmoid,
        Tensor.softplus,
        Tensor.silu,
        Tensor.tanh,
        Tensor.gelu,
        Tensor.elu,
        Tensor.softmax,
    ):
        (gradient,) = function(x).sum().gradient(x)
        assert np.isfinite(value(gradient.node)).all(), function.__name__


def test_casts_between_floats_pass_gradients_and_integers_stop_them():
    x = Tensor(np.array([1.5, 2.5], np.float32))
    (gradient,) = (x.half() * 3).float().sum().gradient(x)
    assert gradient.dtype is pluggrad.dtypes.float32
    np.testing.assert_array_equal(value(gradient.node), [3, 3])
    with pytest.raises(RuntimeError, match="does not depend"):
        x.int().float().sum().gradient(x)


def test_no_node_is_built_in_vain():
    x, y = Tensor(np.ones(3)), Tensor(np.ones(3))
    (gradient,) = x.sum().gradient(x)
    assert gradient.node.op is ops.CONST
    (gradient,) = (x * y).sum().gradient(x)
    assert gradient.node is y.node
    (gradient,) = x.mean().gradient(x)
    assert gradient.node.op is ops.CONST

"""anomaly(): the first NaN is named, forwards and backwards, with the line of the program."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, anomaly, jit, nn
from pluggrad.errors import AnomalyError, JitError

VALUES = np.array([1.0, 0.0, -1.0], np.float32)


def test_an_operation_and_its_line(device):
    x = Tensor(VALUES)
    with anomaly():
        y = (x * 2).log()
        z = y.exp() + 1
        with pytest.raises(AnomalyError, match=r"made by log, .*_anomaly.py:\d+: y = \(x \* 2\).log\(\)"):
            z.sum().item()


def test_a_gradient(device):
    x = Tensor(VALUES)
    with anomaly():
        y = (x * x).sqrt()
        assert np.allclose(y.numpy(), abs(VALUES))
        (gradient,) = y.sum().gradient(x)
        with pytest.raises(AnomalyError, match=r"in the gradient of mul, .*: y = \(x \* x\).sqrt\(\)"):
            gradient.realize()


def test_a_step_of_training():
    model, x = nn.Linear(3, 3), Tensor(VALUES)
    optimizer = nn.optim.SGD([model], lr=0.1)
    with anomaly():
        for scale in (1.0, 0.0):
            loss = (model(x).abs() * scale).log().softmax(0).sum()
            loss.backward()
            if scale:
                optimizer.step()
                continue
            with pytest.raises(AnomalyError, match=r"made by sub, .*softmax"):
                optimizer.step()


def test_a_nan_that_is_left_out_is_fine():
    x = Tensor(VALUES)
    with anomaly():
        assert (x > 0).where(x.log(), 0.0).tolist() == [0, 0, 0]
        assert Tensor([1, 2]).tolist() == [1, 2]
        assert Tensor(np.zeros((0, 2))).sum(0).tolist() == [0, 0]


def test_infinity_if_asked_for():
    x = Tensor(VALUES)
    with anomaly():
        assert np.isinf(x.reciprocal().numpy()).any()
    with pytest.raises(AnomalyError, match="no NaN or infinity, got one made by recip"), anomaly(inf=True):
        x.reciprocal().numpy()


def test_a_value_from_before():
    stored = Tensor([float("nan"), 1.0]).realize()
    with pytest.raises(AnomalyError, match=r"a tensor of shape \(2,\) that holds it from before"), anomaly():
        (stored + 1).numpy()
    made = Tensor(VALUES).log()
    with pytest.raises(AnomalyError, match="made by log, asked for outside"), anomaly():
        made.numpy()


def test_captured_functions_run_uncaptured():
    f = jit(lambda x: x.sqrt() * 2)
    for _ in range(2):
        f(Tensor([4.0]))
    with pytest.raises(AnomalyError, match="made by sqrt"), anomaly():
        f(Tensor([-4.0])).numpy()
    assert f(Tensor([4.0])).item() == 4

    @jit
    def inside(x):
        with anomaly():
            return x * 2

    with pytest.raises(JitError, match="outside of captured functions"):
        inside(Tensor([1.0]))


def test_a_rule_of_one_s_own():
    f = pluggrad.custom_vjp(lambda x: x * 1)
    f.defvjp(lambda x: (x * 1, x), lambda x, g: (g * x.log(),))
    x = Tensor(VALUES)
    with pytest.raises(AnomalyError, match=r"made by log, .*lambda x, g: \(g \* x.log\(\),\)"), anomaly():
        f(x).sum().gradient(x)[0].numpy()


def test_other_threads_and_later_work_are_left_alone():
    results = []
    with anomaly():
        thread = threading.Thread(target=lambda: results.append(Tensor(VALUES).log().numpy()))
        thread.start()
        thread.join()
    assert np.isnan(results[0][2])
    assert np.isnan(Tensor(VALUES).log().numpy()[2])

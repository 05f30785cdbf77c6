"""Libraries that take arrays of any library that implements the standard: scikit-learn, SciPy, einops."""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest

import pluggrad
import pluggrad.array_api as xp
from pluggrad import Tensor

pytestmark = pytest.mark.interop

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, 60)
DATA = (RANDOM.normal(size=(60, 5)) + LABELS[:, None] * np.arange(5)).astype(np.float32)


@pytest.fixture(autouse=True)
def interpreted():
    """On the interpreter: there are many small kernels. SciPy reads the variable when it is imported."""
    assert os.environ.get("SCIPY_ARRAY_API") == "1", "make test-interop sets it"
    with pluggrad.device("ref"):
        yield


def test_array_api_compat_knows_the_namespace():
    import array_api_compat

    x = Tensor([[1.0, 2.0]])
    assert array_api_compat.is_array_api_obj(x)
    assert array_api_compat.array_namespace(x, 1.0) is xp
    assert array_api_compat.device(x) == x.device
    assert array_api_compat.to_device(x, x.device) is x
    assert array_api_compat.size(x) == 2


def estimators():
    from sklearn import (
        decomposition,
        discriminant_analysis,
        linear_model,
        mixture,
        naive_bayes,
        preprocessing,
    )

    return {
        "scaler": (preprocessing.StandardScaler(), "transform"),
        "min and max": (preprocessing.MinMaxScaler(), "transform"),
        "principal components": (decomposition.PCA(2, svd_solver="full"), "transform"),
        "discriminant": (discriminant_analysis.LinearDiscriminantAnalysis(), "predict_proba"),
        "ridge": (linear_model.Ridge(solver="svd"), "predict"),
        "mixture": (mixture.GaussianMixture(2, init_params="random", random_state=0), "predict_proba"),
        "naive Bayes": (naive_bayes.GaussianNB(), "predict_proba"),
    }


@pytest.mark.parametrize("name", ["scaler", "min and max", "principal components", "discriminant", "ridge",
                                  "mixture", "naive Bayes"])
def test_scikit_learn(name):
    import sklearn
    from sklearn.base import clone

    estimator, method = estimators()[name]
    labels = LABELS.astype(np.float32) if name == "ridge" else LABELS
    expected = getattr(clone(estimator).fit(DATA, labels), method)(DATA)
    with sklearn.config_context(array_api_dispatch=True):
        found = getattr(clone(estimator).fit(Tensor(DATA), Tensor(labels)), method)(Tensor(DATA))
    assert isinstance(found, Tensor)
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3, atol=2e-3)


def test_metrics_and_splits_of_scikit_learn():
    import sklearn
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.metrics.pairwise import euclidean_distances
    from sklearn.model_selection import train_test_split

    with sklearn.config_context(array_api_dispatch=True):
        assert accuracy_score(Tensor(LABELS), Tensor(LABELS)) == 1
        assert r2_score(Tensor(DATA[:, 0]), Tensor(DATA[:, 0])) == 1
        distances = euclidean_distances(Tensor(DATA[:5]), Tensor(DATA[5:8]))
        parts = train_test_split(Tensor(DATA), Tensor(LABELS), random_state=0)
    assert distances.shape == (5, 3)
    assert [part.shape for part in parts] == [(45, 5), (15, 5), (45,), (15,)]


SCIPY = {
    "stats.zscore": lambda stats, x: stats.zscore(x),
    "stats.skew": lambda stats, x: stats.skew(x),
    "stats.kurtosis": lambda stats, x: stats.kurtosis(x, axis=1),
    "stats.ttest_1samp": lambda stats, x: stats.ttest_1samp(x, 0.0).statistic,
    "special.logsumexp": lambda special, x: special.logsumexp(x, axis=1),
    "special.softmax": lambda special, x: special.softmax(x, axis=1),
    "special.expit": lambda special, x: special.expit(x),
    "integrate.trapezoid": lambda integrate, x: integrate.trapezoid(x, axis=0),
    "signal.detrend": lambda signal, x: signal.detrend(x, axis=0),
    "ndimage.gaussian_filter": lambda ndimage, x: ndimage.gaussian_filter(x, 1.0),
    "cluster.vq.whiten": lambda vq, x: vq.whiten(x),
}


@pytest.mark.parametrize("name", SCIPY)
def test_scipy(name):
    module = importlib.import_module(f"scipy.{name.rpartition('.')[0]}")
    found = SCIPY[name](module, Tensor(DATA))
    assert isinstance(found, Tensor)
    np.testing.assert_allclose(found.numpy(), SCIPY[name](module, DATA), rtol=2e-4, atol=2e-4)


def test_scipy_differentiates_and_integrates_functions_of_ours():
    from scipy import differentiate, integrate

    at = Tensor([0.0, 1.0], dtype="float64")
    slope = differentiate.derivative(lambda x: xp.exp(x), at).df
    np.testing.assert_allclose(slope.numpy(), np.exp([0.0, 1.0]), rtol=1e-8)
    low, high = (Tensor([edge, edge], dtype="float64") for edge in (0.0, 1.0))
    volume = integrate.cubature(lambda x: xp.prod(x, axis=-1), low, high).estimate
    assert volume.item() == pytest.approx(0.25)


def test_einops():
    from einops import array_api as einops

    x = Tensor(DATA)
    assert np.array_equal(einops.rearrange(x, "(a b) c -> a (b c)", a=20).numpy(), DATA.reshape(20, 15))
    means = einops.reduce(x, "(a b) c -> a c", "mean", a=20)
    np.testing.assert_allclose(means.numpy(), DATA.reshape(20, 3, 5).mean(1), rtol=1e-5)
    assert einops.repeat(x, "a c -> a k c", k=3).shape == (60, 3, 5)
    assert einops.pack([x, x], "* c")[0].shape == (120, 5)


def test_gradients_flow_through_other_libraries():
    from einops import array_api as einops
    from scipy import special

    x = Tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True)
    einops.reduce(special.logsumexp(x, axis=1), "a -> ", "sum").backward()
    np.testing.assert_allclose(x.grad.numpy(), special.softmax(x.numpy(), axis=1), rtol=1e-5)

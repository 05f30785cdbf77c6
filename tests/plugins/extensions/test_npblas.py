"""`Backend.claim`: a device that hands products of matrices to a library."""
from __future__ import annotations

import sys
from unittest import mock

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, config, nn
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import InternalError, PluginFailed
from pluggrad.plugin_api import Backend, DeviceId

HERE = "npblas"


@pytest.fixture(scope="module", autouse=True)
def npblas(installed):
    installed("pluggrad-npblas")
    pluggrad.Device[HERE].synchronize()


@pytest.fixture
def calls():
    """The shapes that `numpy.matmul` is called with by the device."""
    module = sys.modules["pluggrad_npblas.device"]
    with mock.patch.object(module.np, "matmul", wraps=np.matmul) as spy:
        yield lambda: [(call.args[0].shape, call.args[1].shape) for call in spy.call_args_list
                       if "out" in call.kwargs]


def drawn(*shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def tensor(array: np.ndarray) -> Tensor:
    return Tensor(array, device=HERE)


# ---- products ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("size", [(1, 5, 7), (5, 1, 7), (5, 7, 2), (33, 17, 65)], ids=str)
def test_products_in_every_transposition(size, order, calls):
    m, n, k = size
    a = drawn(m, k) if order[0] == "n" else drawn(k, m).T
    b = drawn(k, n) if order[1] == "n" else drawn(n, k).T
    left = tensor(a) if order[0] == "n" else tensor(np.ascontiguousarray(a.T)).T
    right = tensor(b) if order[1] == "n" else tensor(np.ascontiguousarray(b.T)).T
    np.testing.assert_allclose((left @ right).numpy(), a @ b, rtol=1e-5, atol=1e-5)
    assert len(calls()) == 1


@pytest.mark.parametrize(("a", "b"), [((3, 5, 7), (3, 7, 2)), ((3, 5, 7), (7, 2)), ((5, 7), (3, 7, 2)),
                                      ((2, 1, 5, 7), (4, 7, 2)), ((5, 7), (7,)), ((7,), (7, 2))], ids=str)
def test_products_with_batches(a, b, calls):
    x, y = drawn(*a), drawn(*b)
    np.testing.assert_allclose((tensor(x) @ tensor(y)).numpy(), x @ y, rtol=1e-5, atol=1e-5)
    assert len(calls()) == 1


def test_a_product_of_parts_reads_them_where_they_lie(calls):
    x, y = drawn(20, 30), drawn(30, 9)
    got = tensor(x)[3:15:2, 4:20] @ tensor(y)[8:24, ::2]
    np.testing.assert_allclose(got.numpy(), x[3:15:2, 4:20] @ y[8:24, ::2], rtol=1e-5, atol=1e-5)
    assert calls() == [((6, 16), (16, 5))]


def test_a_product_written_into_a_part_of_a_tensor(calls):
    x, y, base = drawn(4, 6), drawn(6, 5), np.zeros((9, 8), np.float32)
    target = tensor(base)
    target[2:6, 1:6] = tensor(x) @ tensor(y)
    base[2:6, 1:6] = x @ y
    np.testing.assert_allclose(target.numpy(), base, rtol=1e-5, atol=1e-5)


def test_double_precision_is_blas_s_too(calls):
    x, y = drawn(5, 7, dtype=np.float64), drawn(7, 3, dtype=np.float64)
    np.testing.assert_allclose((tensor(x) @ tensor(y)).numpy(), x @ y, rtol=1e-14)
    assert len(calls()) == 1


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float16", "bfloat16", "bool"])
def test_other_dtypes_are_left_to_the_core(dtype, calls):
    x, y = np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2)
    got = tensor(x).cast(dtype) @ tensor(y).cast(dtype)
    expected = (x != 0) @ (y != 0) if dtype == "bool" else x @ y
    np.testing.assert_array_equal(got.cast("float32").numpy(), expected)
    assert calls() == []


def test_what_a_product_of_infinities_gives_is_as_anywhere(calls):
    x = tensor(np.array([[np.inf, 1], [0, np.nan]], np.float32))
    np.testing.assert_array_equal((x @ x).numpy(), [[np.inf, np.nan], [np.nan, np.nan]])


# ---- in programs -------------------------------------------------------------------------------------------
def network(device: str) -> tuple[Tensor, list[Tensor]]:
    x = Tensor(drawn(64, 64), device=device)
    w1, b1, w2 = [Tensor(drawn(*shape) / 8, device=device, requires_grad=True)
                  for shape in ((64, 64), (64,), (64, 64))]
    return ((x @ w1 + b1).relu() @ w2).log_softmax(1).mean(), [w1, b1, w2]


def test_gradients_go_through_it(calls):
    loss, weights = network(HERE)
    loss.backward()
    expected_loss, expected = network("ref")
    expected_loss.backward()
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-6)
    for mine, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=1e-4, atol=1e-6)
    assert set(calls()) == {((64, 64), (64, 64))}


def test_a_captured_function_replays_it(calls):
    weight = tensor(drawn(6, 4))

    @pluggrad.jit
    def step(x):
        return (x @ weight).relu().realize()

    for seed in range(4):
        x = np.random.default_rng(seed).standard_normal((3, 6)).astype(np.float32)
        np.testing.assert_allclose(step(tensor(x)).numpy(), np.maximum(x @ weight.numpy(), 0), rtol=1e-5,
                                   atol=1e-6)
    assert len(calls()) == 4


def losses(device: str) -> list[float]:
    Tensor.manual_seed(0)
    x, y = drawn(256, 256), np.arange(256)
    with pluggrad.device(device):
        model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
        optimizer, found = nn.optim.SGD(model.parameters(), lr=0.1), []
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(Tensor(x)).cross_entropy(Tensor(y))
            loss.backward()
            optimizer.step()
            found.append(loss.item())
    return found


def test_training_gives_what_it_gives_elsewhere(calls):
    np.testing.assert_allclose(losses(HERE), losses("ref"), rtol=1e-5)
    assert len(calls()) == 3 * 5, "both layers, the input of the second, both weights"


# ---- settings, listings, caches ----------------------------------------------------------------------------
@pytest.fixture
def setting(monkeypatch):
    def change(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PLUGGRAD_{name}", value)
        config.reload()

    yield change
    monkeypatch.undo()
    config.reload()


def test_the_interpreter_checks_what_the_library_computes(setting, calls):
    setting(VALIDATE="1")
    x, y = drawn(6, 11), drawn(11, 4)
    np.testing.assert_allclose((tensor(x) @ tensor(y)).numpy(), x @ y, rtol=1e-5, atol=1e-5)
    wrong = mock.patch.object(sys.modules["pluggrad_npblas.device"], "in_place",
                              side_effect=lambda matrix, memory: np.zeros(matrix.shape, np.float32))
    with wrong, pytest.raises(InternalError, match=r"kernel sum_6_4.*the interpreter's values"):
        (tensor(x) @ tensor(y)).numpy()


def test_the_plan_says_whose_code_runs(run):
    expression = "(Tensor.rand(4, 5).realize() @ Tensor.rand(5, 6).realize()).relu()"
    result = run("-m", "pluggrad", "explain", expression, "--device", HERE, "--time",
                 extensions=("pluggrad-npblas",))
    assert result.returncode == 0, result.stderr
    assert "launch sum_where_4_6_product by numpy.matmul(" in result.stdout
    assert "=== lower: 1 program" in result.stdout


COUNT = f"""
import numpy as np
from pluggrad import Tensor
from pluggrad.runtime import GlobalCounters
x = Tensor(np.ones((3, 4), np.float32), device="{HERE}")
print((x @ x.T).tolist(), GlobalCounters.scheduled, GlobalCounters.plan_disk_hits)
"""


def test_a_second_process_finds_plans_with_payloads(run):
    first, second = [run("-c", COUNT, extensions=("pluggrad-npblas",)) for _ in range(2)]
    product = [[4.0] * 3] * 3
    assert (first.stdout, first.stderr) == (f"{product} 1 0\n", "")
    assert second.stdout == f"{product} 0 1\n"


def test_another_library_finds_no_plan_of_this_one(run, tmp_path):
    run("-c", COUNT, extensions=("pluggrad-npblas",))
    other = "import pluggrad_npblas.plugin as p; p.NpblasBackend.claim_key = 'other'\n"
    assert run("-c", other + COUNT, extensions=("pluggrad-npblas",)).stdout.endswith(" 1 0\n")


def test_claims_without_a_key_are_not_kept(run):
    nameless = "import pluggrad_npblas.plugin as p; p.NpblasBackend.claim_key = ''\n"
    for _ in range(2):
        assert run("-c", nameless + COUNT, extensions=("pluggrad-npblas",)).stdout.endswith(" 1 0\n")


def test_it_keeps_the_contract(run):
    result = run("-m", "pluggrad", "conformance", HERE, "--level", "L0", extensions=("pluggrad-npblas",))
    assert result.returncode == 0, result.stdout + result.stderr


# ---- what a plugin may get wrong ---------------------------------------------------------------------------
@pytest.mark.parametrize(("answer", "message"), [
    ({"return_value": "numpy"}, "claim is str, expected .*Extern"),
    ({"side_effect": OSError("no library")}, "OSError: no library"),
])
def test_a_broken_claim_is_named(answer, message):
    backend = sys.modules["pluggrad_npblas.plugin"].NpblasBackend
    with mock.patch.object(backend, "claim", **answer), \
            pytest.raises(PluginFailed, match=rf"pluggrad-npblas 1\.0\) failed at claim: .*{message}"):
        (tensor(drawn(3, 71)) @ tensor(drawn(71, 2))).numpy()


def test_a_backend_without_claims_is_never_asked():
    with mock.patch.object(Backend, "claim", side_effect=AssertionError):
        assert REGISTRY.claim(DeviceId("ref")) is None
        (Tensor(drawn(3, 73), device="ref") @ Tensor(drawn(73, 2), device="ref")).numpy()
    assert REGISTRY.claim(DeviceId(HERE)) is not None

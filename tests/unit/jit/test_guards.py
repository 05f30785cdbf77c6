"""What captures anew, what may not be done inside, and what check=True finds."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, TinyJit, jit
from pluggrad.errors import JitError
from pluggrad.nn import optim, state
from pluggrad.tensor.random_state import rng_counter

pytestmark = pytest.mark.usefixtures("device")


def numbers(*values: float) -> Tensor:
    return Tensor([float(value) for value in values])


# ---- guards --------------------------------------------------------------------------------------


def test_a_change_captures_anew_and_a_return_does_not(device):
    f = jit(lambda x, k=1: x * k + 1)
    x = numbers(1, 2).realize()
    counts = []

    def call(*arguments):
        f(*arguments)
        counts.append(f.captures)

    call(x)
    call(numbers(1, 2, 3))  # shape
    call(Tensor([1, 2], device=device))  # dtype
    call(Tensor([1.0, 2.0], device="ref"))
    call(x, 2)
    call(x, 2.0)
    call(x, True)
    call(Tensor([1.0, 2.0], requires_grad=True))
    assert counts == [1, 2, 3, 3 if device == "ref" else 4, *[counts[3] + i for i in (1, 2, 3, 4)]]
    f(x)
    f(x, 2)
    f(numbers(4, 5, 6))
    assert f.captures == counts[-1]
    f.reset()
    f(x)
    assert f.captures == counts[-1] + 1


def test_modes_capture_anew(monkeypatch):
    f = jit(lambda x: x.dropout(0.5) if Tensor.training else x * 2)
    x = Tensor.ones(200).realize()
    for _ in range(2):
        assert f(x).sum().item() == 400
        with Tensor.no_grad():
            assert f(x).sum().item() == 400
        monkeypatch.setattr(Tensor, "training", True)
        assert 0 < (f(x).numpy() == 0).sum() < 200
        monkeypatch.setattr(Tensor, "training", False)
    assert f.captures == 3


def test_the_default_device_captures_anew(device):
    f = jit(lambda: Tensor.ones(2) + 1)
    assert f().device == device
    with pluggrad.device("ref"):
        assert f().device == "ref"
    assert f().device == device


def test_shared_memory_among_arguments_captures_anew():
    @jit
    def f(x, y):
        x.assign(x + 1)
        return x + y

    a, b = numbers(1).realize(), numbers(10).realize()
    assert f(a, b).item() == 12
    assert f(b, b).item() == 22
    assert f(a, b).item() == 14
    assert f.captures == 2


def test_state_of_another_shape_captures_anew():
    w = numbers(1).realize()
    f = jit(lambda x: (x * w).sum())
    assert f(numbers(2)).item() == 2
    w.replace(numbers(1, 2, 3))
    assert f(numbers(2)).item() == 12
    assert f.captures == 2


# ---- methods -------------------------------------------------------------------------------------


class Counter:
    def __init__(self, start: float) -> None:
        self.count = numbers(start).realize()

    @jit
    def add(self, x: Tensor) -> Tensor:
        self.count.assign(self.count + x)
        return self.count


def test_a_method_has_captures_for_each_object():
    a, b = Counter(0), Counter(10)
    for index in range(1, 4):
        assert a.add(numbers(1)).item() == index
        assert b.add(numbers(2)).item() == 10 + 2 * index
    assert (a.add.captures, b.add.captures, Counter.add.captures) == (1, 1, 0)
    a.add.reset()
    assert a.add(numbers(1)).item() == 4
    assert a.add.captures == 2
    assert Counter(5).add(numbers(1)).item() == 6


def test_captures_do_not_keep_their_object():
    made = Counter(1)
    made.add(numbers(1))
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


def test_a_captured_function_in_a_model_is_no_part_of_its_state():
    class Model:
        def __init__(self) -> None:
            self.w = numbers(1).realize()
            self.forward = jit(self.run)

        def run(self, x: Tensor) -> Tensor:
            return x * self.w

    model = Model()
    assert model.forward(numbers(3)).item() == 3
    assert list(state.get_state_dict(model)) == ["w"]


def test_names():
    @jit
    def documented(x):
        """Twice."""
        return x * 2

    assert (documented.__name__, documented.__doc__) == ("documented", "Twice.")
    assert TinyJit is jit


# ---- reading inside ------------------------------------------------------------------------------

READS = {
    "item": lambda x: x.sum().item(),
    "numpy": lambda x: x.numpy(),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool((x > 0).all()),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.sum()),
    "format": lambda x: f"{x.sum():.2f}",
    "array": lambda x: np.asarray(x),
    "contains": lambda x: 1.0 in x,
    "branch": lambda x: x if x.sum() > 0 else -x,
    "count": lambda x: range((x > 0).sum()),
}


@pytest.mark.parametrize("name", READS)
def test_reading_a_value_inside_names_the_line(name):
    w = numbers(1).realize()
    read = READS[name]

    @jit
    def f(x):
        w.assign(w + 1)
        return read(x * 1)

    with pytest.raises(JitError) as caught:
        f(numbers(1, 2))
    assert f"{Path(__file__).name}:{read.__code__.co_firstlineno}" in str(caught.value)
    assert "read it outside" in str(caught.value)
    assert numbers(5).item() == 5
    assert w.item() == 2


def test_printing_inside_shows_no_values(capsys):
    @jit
    def f(x):
        y = x + 1
        print(y, x)
        return y

    for _ in range(3):
        print(f(numbers(1)).item())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].count("<not computed>") == 2
    assert "shape=(1,)" in lines[0]
    assert lines[1:] == ["2.0"] * 3


def test_changing_a_learning_rate_inside_is_refused():
    p = Tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0)

    @jit
    def f():
        optimizer.zero_grad()
        p.sum().backward()
        optimizer.step()
        optimizer.lr = optimizer.lr / 2

    with pytest.raises(JitError, match=r"expected lr to stay .* from 1.0 to 0.5"):
        f()


# ---- check=True ----------------------------------------------------------------------------------


def test_check_passes_what_is_right():
    def run(wrap):
        Tensor.manual_seed(0)
        p = Tensor([1.0, 2.0], requires_grad=True)
        optimizer = optim.Adam([p], lr=0.1)
        offset = np.array([0.5, 0.25], np.float32)

        @wrap
        def step(x):
            optimizer.zero_grad()
            loss = (p * p * x + Tensor(offset) + Tensor.rand(2)).sum()
            loss.backward()
            optimizer.step()
            return loss

        losses = [step(numbers(1 + index)).item() for index in range(4)]
        return [*losses, *p.numpy(), *p.grad.numpy()]

    np.testing.assert_allclose(run(jit(check=True)), run(lambda f: f), rtol=1e-6)


@pytest.mark.parametrize("kind", ["scalar", "branch", "data", "result"])
def test_check_finds_a_frozen_value_and_changes_nothing(kind):
    p = Tensor([1.0], requires_grad=True)
    optimizer = optim.Adam([p], lr=0.1)
    frozen = 2.5

    @jit(check=True)
    def step(x):
        optimizer.zero_grad()
        y = p * x + Tensor.rand(1)
        if kind == "scalar":
            y = y * frozen
        elif kind == "branch" and frozen > 3:
            y = y.exp()
        elif kind == "data":
            y = y * Tensor(np.array([frozen, frozen], np.float32))
        y.sum().backward()
        optimizer.step()
        return frozen if kind == "result" else y

    def state_of_all():
        tensors = [each.numpy() for each in (p, p.grad, optimizer.m[0], optimizer.v[0])]
        return [*tensors, rng_counter.value, optimizer._counts[0].value]

    step(numbers(1))
    step(numbers(1))
    before = state_of_all()
    frozen = 3.5
    with pytest.raises(JitError, match="a Python value that is not an argument has changed"):
        step(numbers(1))
    for one, other in zip(state_of_all(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    frozen = 2.5
    step(numbers(1))
    optimizer.zero_grad()
    (p * 3).sum().backward()  # and the tensor is still a leaf
    assert p.grad.item() == 3


# ---- threads -------------------------------------------------------------------------------------


def test_threads_that_call_one_function(device):
    w = Tensor([0.0], device=device).realize()

    @jit
    def add(x):
        w.assign(w + x)
        return x * 2

    wrong = []

    def call(value):
        results = [add(Tensor([value], device=device)).item() for _ in range(50)]
        wrong.extend(result for result in results if result != 2 * value)

    threads = [threading.Thread(target=call, args=(value,)) for value in (1.0, 2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert w.item() == 300
    assert add.captures == 1


def test_other_threads_work_on_while_one_captures():
    inside, go = threading.Event(), threading.Event()
    found = []

    @jit
    def slow(x):
        inside.set()
        go.wait(5)
        return x + Tensor.rand(1) * 0

    def other():
        inside.wait(5)
        drawn = [Tensor.rand(2) for _ in range(3)]
        product = numbers(2) * 3
        threading.Timer(0.05, go.set).start()
        found.append((repr(product), product.item(), drawn[0].shape))

    worker = threading.Thread(target=other)
    worker.start()
    assert slow(numbers(1)).item() == 1
    worker.join()
    assert "not computed" not in found[0][0]
    assert found[0][1] == 6
    before = rng_counter.value
    assert slow(numbers(4)).item() == 4
    assert rng_counter.value - before <= 4


READING = """
from pluggrad import Tensor, jit

@jit
def reads(x):
    return x + x.sum().item()

def run():
    reads(Tensor([1.0]))
"""


def test_a_value_that_is_read_is_named_by_the_line_that_reads_it():
    """Wherever that file lies."""
    names = {"__name__": "train"}
    exec(compile(READING, "/home/me/pluggrad/train.py", "exec"), names)
    with pytest.raises(JitError, match=r"got a read at /home/me/pluggrad/train\.py:6: "):
        names["run"]()

"""Threads that build and realize graphs over shared tensors."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pluggrad import Tensor

pytestmark = pytest.mark.usefixtures("device")


def in_threads(work, count):
    """Run `work(number)` in threads at once; the first error, if any, is raised here."""
    errors = []
    start = threading.Barrier(count)

    def run(number):
        start.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_results_are_right_where_graphs_share_tensors(device):
    shared = Tensor(np.arange(64, dtype=np.float32), device=device)
    hidden = (shared * 2 + 1).sqrt()
    expected = np.sqrt(np.arange(64, dtype=np.float32) * 2 + 1)

    def work(number):
        for step in range(20):
            mine = (hidden * (number + 1)).reshape(8, 8)
            if step % 5 == number:
                hidden.realize()
            total = (mine + step).sum(1).realize()
            np.testing.assert_allclose(
                total.numpy(), (expected * (number + 1) + step).reshape(8, 8).sum(1), rtol=1e-5
            )

    in_threads(work, 4)


def test_each_thread_trains_its_own_copy(device):
    x = Tensor(np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4), device=device)
    results = {}

    def work(number):
        w = Tensor(np.full((4, 1), 0.1, np.float32), device=device, requires_grad=True)
        for _ in range(10):
            w.grad = None
            (x @ w).square().mean().backward()
            w.assign(w - 0.1 * w.grad).realize()
        results[number] = w.numpy()

    in_threads(work, 4)
    for number in range(1, 4):
        np.testing.assert_array_equal(results[number], results[0])


def test_no_bit_depends_on_what_other_threads_left_to_compute(device):
    x = Tensor(np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4), device=device)

    def update():
        w = Tensor(np.full((4, 1), 0.1, np.float32), device=device, requires_grad=True)
        loss = (x @ w).square().mean().backward()
        return w.assign(w - 0.1 * w.grad), loss

    def train(meanwhile):
        w = Tensor(np.full((4, 1), 0.1, np.float32), device=device, requires_grad=True)
        for _ in range(10):
            left = meanwhile()
            w.grad = None
            (x @ w).square().mean().backward()
            w.assign(w - 0.1 * w.grad).realize()
            del left
        return w.numpy()

    def another_thread_updates():
        left = []
        in_threads(lambda _: left.append(update()), 1)
        return left

    np.testing.assert_array_equal(train(another_thread_updates), train(lambda: None))

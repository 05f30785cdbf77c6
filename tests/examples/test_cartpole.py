"""The agent on the cart: it learns, its bookkeeping adds up, and the recorded runs are what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from examples import cartpole
from pluggrad import Tensor, device

RECORD = Path(cartpole.__file__).parent / "results" / "cartpole.jsonl"


@pytest.fixture
def few(monkeypatch) -> None:
    """Rounds that an interpreter goes through in moments."""
    for name, value in {"CARTS": 3, "HORIZON": 6, "BATCH": 8, "UPDATES": 2}.items():
        monkeypatch.setattr(cartpole, name, value)


def test_the_return_triples(tmp_path, run_example):
    result = run_example("cartpole.py", "--steps", "30000", "--record", "record.jsonl")
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "record.jsonl").read_text())
    assert 15 < record["first"] < 30
    assert record["evaluated"] >= 3 * record["first"]
    assert len(record["lengths"]) == cartpole.EVALUATED
    assert "100%" in result.stderr
    assert (tmp_path / "runs" / "cartpole" / "cartpole.png").read_bytes().startswith(b"\x89PNG")


def test_recorded_runs():
    runs = [json.loads(line) for line in RECORD.read_text().splitlines()]
    assert sorted(run["seed"] for run in runs) == [0, 1, 2, 3, 4]
    assert all(len(run["lengths"]) == 100 for run in runs)
    assert np.median([np.mean(run["lengths"]) for run in runs]) >= 475


@pytest.mark.usefixtures("few")
def test_a_run_repeats_with_its_seed(device_name):
    def trained(seed: int) -> tuple[list[int], np.ndarray]:
        Tensor.manual_seed(seed)
        agent = cartpole.Agent()
        lengths = cartpole.train(agent, cartpole.read_options(["--steps", "90", "--seed", str(seed)]))
        return lengths, agent.actor[0].weight.numpy()

    with device(device_name):
        first, again, other = trained(5), trained(5), trained(6)
    assert first[0] == again[0]
    np.testing.assert_array_equal(first[1], again[1])
    assert np.abs(first[1] - other[1]).max() > 0.01


def test_advantages_add_up(monkeypatch):
    """With a critic that expects nothing, and trust in what happened, they are the discounted rewards."""
    monkeypatch.setattr(cartpole, "HORIZON", 60)
    monkeypatch.setattr(cartpole, "TRACE", 1.0)
    nothing = Tensor.zeros(1)
    carts = cartpole.Carts(1, seed=3)
    steps = cartpole.play(lambda states: (nothing.int(), nothing, nothing), carts)
    assert len(carts.lengths) >= 5
    assert all(8 <= length <= 11 for length in carts.lengths)  # pushed to one side, the pole falls at once
    assert len(steps.states) == 60 - len(carts.lengths) + carts.ended.sum()  # putting a cart back is no step
    begin = 0
    for length in carts.lengths:
        expected = [(cartpole.DISCOUNT ** np.arange(left)).sum() for left in range(length, 0, -1)]
        np.testing.assert_allclose(steps.advantages[begin : begin + length], expected, rtol=1e-5)
        begin += length
    np.testing.assert_array_equal(steps.returns, steps.advantages)


def test_a_device_that_is_not_there(run_example):
    result = run_example("cartpole.py", "--device", "no-such-device")
    assert result.returncode == 1
    assert result.stderr.startswith("cartpole.py: no plugin provides device 'no-such-device'")

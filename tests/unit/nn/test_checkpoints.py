"""Checkpoints: a run that is killed anywhere and resumed gives the losses that it would have given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pluggrad import Tensor, jit, manual_seed
from pluggrad.errors import FileFormatError, StateError, ValueRangeError
from pluggrad.nn import BatchNorm, Linear, Sequential, optim, state

STEPS = 12
PROGRAM = """
import sys
from pathlib import Path

import numpy as np

from pluggrad import Tensor, manual_seed
from pluggrad.data import DataLoader, TensorDataset
from pluggrad.nn import BatchNorm, Linear, Sequential, optim, state

path, steps = Path(sys.argv[1]), int(sys.argv[2])
Tensor.training = True
manual_seed(3)
generator = np.random.default_rng(0)
x = Tensor(generator.standard_normal((16, 4)).astype(np.float32))
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=True)
model = Sequential(Linear(4, 8), BatchNorm(8), Tensor.tanh, lambda h: h.dropout(0.25), Linear(8, 1))
optimizer = optim.AdamW(model, lr=0.05)
schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
step = 0
if path.exists():
    parts = {"schedule": schedule, "loader": loader}
    step = state.load_checkpoint(path, model, optimizer, **parts)["step"]
while step < steps:
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        step += 1
        print(step, float(loss).hex(), flush=True)
        state.save_checkpoint(path, model, optimizer, step, schedule=schedule, loader=loader)
        if step == steps:
            break
"""


def run(folder: Path, kill_after: int | None = None) -> list[tuple[int, str]]:
    """What the program printed until it ended, or until it was killed, soon after some lines."""
    command = [sys.executable, "-c", PROGRAM, str(folder / "run.ckpt"), str(STEPS)]
    environment = {**os.environ, "PLUGGRAD_DEVICE": "ref"}  # which has nothing to compile
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if len(lines) == kill_after:
                process.kill()
                break
        lines += [line for line in process.stdout if line.endswith("\n")]  # it went on until the kill came
        process.wait()
    if kill_after is None:
        assert process.returncode == 0
    return [(int(line.split()[0]), line.split()[1]) for line in lines]


def test_a_run_killed_at_many_steps_gives_the_same_losses(tmp_path):
    (tmp_path / "whole").mkdir()
    expected = run(tmp_path / "whole")
    assert [step for step, _ in expected] == list(range(1, STEPS + 1))
    found: dict[int, str] = {}
    for kill_after in (1, 4, 3, None):  # at once, within an epoch, at its end, ...
        for step, loss in run(tmp_path, kill_after):
            assert found.setdefault(step, loss) == loss  # what is done again comes out again
    assert found == dict(expected)


def test_a_kill_while_a_checkpoint_is_written_leaves_a_whole_one(tmp_path):
    program = """
import sys
import numpy as np
from pluggrad import Tensor
from pluggrad.nn import state
model = [Tensor(np.zeros(200_000, np.float32))]
for number in range(10_000):
    model[0].assign(Tensor(np.full(200_000, number, np.float32)))
    state.save_checkpoint(sys.argv[1], model, step=number)
    print(number, flush=True)
"""
    path = tmp_path / "model.ckpt"
    for lines in (1, 4, 9):
        command = [sys.executable, "-c", program, str(path)]
        environment = {**os.environ, "PLUGGRAD_DEVICE": "ref"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            for _ in range(lines):
                process.stdout.readline()
            process.kill()  # it writes the next one by now
        model = [Tensor(np.zeros(200_000, np.float32))]
        step = state.load_checkpoint(path, model)["step"]
        assert step >= lines - 1
        np.testing.assert_array_equal(model[0].numpy(), np.full(200_000, step, np.float32))


# ---- what is kept --------------------------------------------------------------------------------


class Scale:
    """Something with a state."""

    def __init__(self, value: float) -> None:
        self.value = value

    def state_dict(self):
        return {"value": self.value, "history": [Tensor([self.value])]}

    def load_state_dict(self, found):
        self.value = found["value"] + found["history"][0].item() * 0


def small() -> Sequential:
    return Sequential(Linear(2, 3), BatchNorm(3), Linear(3, 1))


def test_parts_and_plain_values(tmp_path):
    path, model, scale = tmp_path / "a.ckpt", small(), Scale(0.1)
    extra = {"name": "x", "best": [0.5, None, True, float("inf")], "curve": Tensor([1.0, 2.0])}
    state.save_checkpoint(path, model, step=7, scale=scale, extra=extra)
    other, found_scale = small(), Scale(3.0)
    found = state.load_checkpoint(path, other, scale=found_scale)
    assert found_scale.value == 0.1
    assert found["step"] == 7
    assert found["extra"]["best"] == [0.5, None, True, float("inf")]
    np.testing.assert_array_equal(found["extra"]["curve"].numpy(), [1, 2])
    assert set(found) == {"step", "extra"}
    for name, tensor in state.get_state_dict(model).items():
        np.testing.assert_array_equal(state.get_state_dict(other)[name].numpy(), tensor.numpy())


def test_the_random_stream_goes_on(tmp_path):
    path = tmp_path / "a.ckpt"
    manual_seed((1 << 63) + 5)
    Tensor.rand(3).realize()
    state.save_checkpoint(path, small())
    expected = Tensor.rand(3).numpy()
    manual_seed(0)
    state.load_checkpoint(path)
    np.testing.assert_array_equal(Tensor.rand(3).numpy(), expected)
    manual_seed(0)
    first = Tensor.rand(3).numpy()
    manual_seed(0)
    state.load_checkpoint(path, rng=False)
    np.testing.assert_array_equal(Tensor.rand(3).numpy(), first)


OPTIMIZERS = ["SGD", "Adam", "AdamW", "LARS", "LAMB", "Muon", "RMSprop", "Adagrad", "Adadelta"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on(tmp_path, name, monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)
    generator = np.random.default_rng(0)
    x, y = (Tensor(generator.standard_normal((8, n)).astype(np.float32), device="ref") for n in (2, 1))

    def made():
        model = Sequential(Linear(2, 3), Tensor.tanh, Linear(3, 1)).to("ref")
        return model, getattr(optim, name)(model, lr=0.1)

    def train(model, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()
        return [tensor.numpy() for tensor in state.get_parameters(model)]

    model, optimizer = made()
    train(model, optimizer, 3)
    optimizer.lr = 0.02
    state.save_checkpoint(tmp_path / "a.ckpt", model, optimizer)
    expected = train(model, optimizer, 3)
    resumed, other = made()
    state.load_checkpoint(tmp_path / "a.ckpt", resumed, other)
    for one, two in zip(train(resumed, other, 3), expected, strict=True):
        np.testing.assert_array_equal(one, two)


def test_captured_steps_go_on(tmp_path):
    def run(resume_after):
        manual_seed(1)
        model = Linear(3, 1)
        optimizer = optim.Adam(model, lr=0.1)
        step = jit(lambda x: taken(model, optimizer, x))
        x = Tensor(np.eye(3, dtype=np.float32))
        losses = [step(x).item() for _ in range(resume_after)]
        state.save_checkpoint(tmp_path / "a.ckpt", model, optimizer)
        model = Linear(3, 1)
        optimizer = optim.Adam(model, lr=0.5)
        state.load_checkpoint(tmp_path / "a.ckpt", model, optimizer)
        step = jit(lambda x: taken(model, optimizer, x))
        return losses + [step(x).item() for _ in range(6 - resume_after)]

    def taken(model, optimizer, x):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    assert run(2) == run(4) == run(6)


# ---- what is refused -----------------------------------------------------------------------------


def test_another_architecture(tmp_path):
    path, model = tmp_path / "a.ckpt", Sequential(Linear(2, 3), Linear(3, 1))
    state.save_checkpoint(path, model, optim.Adam(model, lr=0.1))
    other = Sequential(Linear(2, 4), Linear(4, 1), Linear(1, 1))
    optimizer = optim.Adam(other, lr=0.2)
    before = other[0].weight.numpy()
    with pytest.raises(StateError, match=r"misshapen: 0\.weight, expected \(4, 2\), got \(3, 2\)") as caught:
        state.load_checkpoint(path, other, optimizer)
    assert "missing: 2.weight" in str(caught.value)
    np.testing.assert_array_equal(other[0].weight.numpy(), before)
    assert optimizer.lr == 0.2
    with pytest.raises(StateError, match="it is of Adam, not of SGD"):
        state.load_checkpoint(path, optimizer=optim.SGD(model))
    with pytest.raises(StateError, match="a file without schedule"):
        state.load_checkpoint(path, schedule=Scale(1.0))


def test_values_that_no_file_holds(tmp_path):
    path = tmp_path / "a.ckpt"
    with pytest.raises(ValueRangeError, match=r"got function as extra\.1"):
        state.save_checkpoint(path, small(), extra=[1, test_another_architecture])
    with pytest.raises(ValueRangeError, match="got dict as extra"):
        state.save_checkpoint(path, small(), extra={1: 2})
    assert not path.exists()


def test_a_file_of_another_kind(tmp_path):
    state.safe_save({"weight": Tensor([1.0])}, tmp_path / "model.safetensors")
    with pytest.raises(FileFormatError, match=r"a file of tensors alone.*safe_load"):
        state.load_checkpoint(tmp_path / "model.safetensors")

"""Whole programs on the double: expressions, training, replays, two devices; and the conformance suite."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pluggrad import Tensor, jit, manual_seed, nn
from pluggrad import device as on_device
from pluggrad.device.discovery import Entry
from pluggrad.device.plugins import Plugin
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import DeviceLost
from pluggrad.runtime import sessions
from tests.fake_plugins.install import write_metadata
from tests.plugins.cuda import conftest
from tests.plugins.cuda.double import library, plugin
from tests.plugins.cuda.double.world import LAUNCH_FAILED, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The device `cuda-double`, twice, in this process."""
    made = World(plugin.GPUS)
    for gpu in made.gpus:
        gpu.peers |= {0, 1}
    conftest.install(made, monkeypatch)
    REGISTRY.entries()
    entry = Entry(plugin.NAME, plugin.__name__, "devices", 1, "pluggrad-tests", "0")
    REGISTRY._plugins[plugin.NAME] = Plugin(entry, REGISTRY._host)
    yield made
    gc.collect()
    for known in (REGISTRY._verified, REGISTRY._targets, REGISTRY._toolchains, REGISTRY._open,
                  sessions._sessions):
        for key in [key for key in known if str(key).startswith(plugin.NAME)]:
            value = known.pop(key)
            if hasattr(value, "close"):
                value.close()
    del REGISTRY._plugins[plugin.NAME]
    assert made.violations == []
    assert made.stack == []
    conftest.forget()


def test_expressions(world):
    a, b = (np.random.default_rng(seed).random((12, 12), np.float32) for seed in range(2))
    x, y = Tensor(a, device=plugin.NAME), Tensor(b, device=plugin.NAME)
    np.testing.assert_allclose((x @ y).relu().softmax(1).sum(0).numpy(),
                               (np.exp(a @ b) / np.exp(a @ b).sum(1, keepdims=True)).sum(0), rtol=1e-5)
    assert (x.cast("bfloat16") * 2.5 + 1).cast("float32").numpy() == pytest.approx(a * 2.5 + 1, rel=1e-2)


def losses(device: str, replay: bool) -> list[float]:
    """Of a few steps of Adam, from the same start."""
    with on_device(device):
        manual_seed(0)
        layer = nn.Linear(6, 3)
        optimizer = nn.optim.Adam(nn.state.get_parameters(layer), lr=0.05)

        def step(x: Tensor) -> Tensor:
            with Tensor.train():
                optimizer.zero_grad()
                loss = layer(x).tanh().square().mean()
                loss.backward()
                optimizer.step()
            return loss
        run = jit(step) if replay else step
        x = np.random.default_rng(0).random((8, 6), np.float32)
        return [float(run(Tensor(x + number)).item()) for number in range(6)]


def test_training_and_its_replay_are_those_of_the_reference(world):
    expected = losses("ref", replay=False)
    assert losses(plugin.NAME, replay=False) == pytest.approx(expected, rel=1e-5)
    assert losses(plugin.NAME, replay=True) == pytest.approx(expected, rel=1e-5)
    assert world.count("cuGraphLaunch") > 0


def test_copies_between_gpus_are_the_drivers(world):
    x = Tensor(np.arange(5, dtype=np.float32), device=plugin.NAME) * 2
    there = x.to(f"{plugin.NAME}:1")
    assert (there + 1).tolist() == [1, 3, 5, 7, 9]
    assert world.count("cuMemcpyPeerAsync") == 1


def test_a_fault_names_the_list_and_takes_one_device_only(world):
    here = Tensor(np.arange(5, dtype=np.float32), device=plugin.NAME)
    there = Tensor(np.arange(5, dtype=np.float32), device=f"{plugin.NAME}:1").realize()
    y = (here * 3).sin().realize()
    y.tolist()
    kernel = next(iter(_kernels(world)))
    world.faults[kernel] = LAUNCH_FAILED
    y = (here * 7).sin().realize()
    with pytest.raises(DeviceLost, match=rf"unspecified launch failure.*list of {kernel}"):
        y.tolist()
    with pytest.raises(DeviceLost, match="others go on"):
        (here * 3).sin().realize()
    assert (there + 1).tolist() == [1, 2, 3, 4, 5]


def _kernels(world: World) -> list[str]:
    return [thing.kernel.name for thing in world.handles.values() if isinstance(thing, library.Function)]


# ---- the suite that ships with the core --------------------------------------------------------------------
# parts of it: the other tests of L0 and L4 say less about a runtime, or wait for the clock
PARTS = ("L0/memory", "L0/launch", "L4/graph", "L4/async", "L4/peer", "L4/faults", "L4/fork", "L4/threads",
         "L4/events/wait")


def test_conformance(tmp_path: Path):
    write_metadata(tmp_path, "pluggrad-cuda-double", "0.1.0", {
        "pluggrad.devices.v1": {plugin.NAME: plugin.__name__}})
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    ran = subprocess.run([sys.executable, "-m", "pluggrad", "conformance", plugin.NAME, "-k", ",".join(PARTS),
                          "--jobs", "2"],
                         env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "failed" not in ran.stdout

"""The settings that look at each kernel: SYNC and VALIDATE name the one at fault, DEBUG logs them all."""
from __future__ import annotations

import itertools
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from pluggrad import Context, Tensor, config
from pluggrad.device.contract import Event, Launch
from pluggrad.errors import InternalError, KernelFault
from pluggrad.kernel.kernel import Kernel
from pluggrad.profiling.limits import Limits
from pluggrad.runtime import stepwise, validation
from pluggrad.runtime.sessions import session
from pluggrad.target import DeviceId

# a plan that is in memory already is not compiled again, so each test computes with a size of its own
sizes = itertools.count(5)
NAME = re.compile(r"\bk[0-9a-f]{24}\b")
TIMED = re.compile(r"(k[0-9a-f]{24}) +\d+\.\d us +[\d.]+ GFLOP/s +[\d.]+ GB/s +\d+% \w+  \w+")


def train(device: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Softmax of a product, and the product's weights after one step, from values that NumPy repeats."""
    x, w, y = operands(rows)
    weights = Tensor(w, device=device)
    inputs, labels = Tensor(x, device=device), Tensor(y, device=device)
    answers = (inputs @ weights).softmax()
    weights -= 0.5 * (inputs.T @ (answers - labels))
    return answers.numpy(), weights.numpy()


def trained(rows: int) -> tuple[np.ndarray, np.ndarray]:
    x, w, y = operands(rows)
    powers = np.exp(x @ w - (x @ w).max(1, keepdims=True))
    answers = powers / powers.sum(1, keepdims=True)
    return answers, w - 0.5 * (x.T @ (answers - y))


def operands(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(rows)
    x, w = generator.normal(size=(rows, 7)), generator.normal(size=(7, 4))
    return x.astype(np.float32), w.astype(np.float32), np.eye(4, dtype=np.float32)[np.arange(rows) % 4]


def assert_trained(results: tuple[np.ndarray, np.ndarray], rows: int) -> None:
    for result, expected in zip(results, trained(rows), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


class Failing(Event):
    """A launch that the device reports as failed."""

    def wait(self) -> None:
        raise KernelFault("the device reset itself")


@pytest.fixture(autouse=True)
def known_limits(monkeypatch):
    """Of every device: nothing is launched here to measure them."""
    monkeypatch.setattr(stepwise, "limits_of", lambda device: Limits(1e12, 1e11))


@pytest.fixture
def launches(monkeypatch) -> Callable[..., list[str]]:
    """`launches(device, after)` lists the names of kernels as they are launched.

    `after(number, device, command, slots)` runs behind each; the launch ends in the event that it returns.
    """

    def watch(name: str, after=lambda *launch: None) -> list[str]:
        device = session(DeviceId(name)).device
        load, loaded, launched = device.load, [], []

        def loading(binary, signature):
            executable = load(binary, signature)
            loaded.append((executable, signature.name))
            return executable

        def watched(submit):
            def submitting(commands, slots, values):
                event = submit(commands, slots, values)
                for command in commands:
                    if isinstance(command, Launch):
                        launched.append(next(name for found, name in loaded if found is command.executable))
                        event = after(len(launched), device, command, slots) or event
                return event
            return submitting

        def preparing(commands, value_dtypes):
            run = prepare(commands, value_dtypes)
            return partial(watched(lambda _, slots, values: run(slots, values)), commands)

        monkeypatch.setattr(device, "load", loading)
        if "graph" in device.target.capabilities.features:
            prepare = device.prepare
            monkeypatch.setattr(device, "prepare", preparing)
        else:
            monkeypatch.setattr(device, "submit", watched(device.submit))
        return launched

    return watch


def spoil(device, command: Launch, slots) -> None:
    """Write 1000 as the first float of a launch's first buffer, its output."""
    place = command.args[0]
    wrong = np.full(1, 1000, np.float32)
    device.allocator.copyin(slots[place.slot], place.offset, memoryview(wrong).cast("B"))


def test_validate_checks_every_kernel_and_passes_a_correct_device(device_name, launches, monkeypatch):
    rows, checked = next(sizes), []
    interpret = validation.interpret

    def counting(kernel: Kernel, *rest):
        checked.append(kernel)
        return interpret(kernel, *rest)

    monkeypatch.setattr(validation, "interpret", counting)
    launched = launches(device_name)
    with Context(VALIDATE=1):
        assert_trained(train(device_name, rows), rows)
    assert len(checked) == len(launched) > 1


@pytest.mark.parametrize("sabotaged", [1, 2])
def test_validate_names_the_kernel_that_computes_something_else(device_name, launches, sabotaged):
    rows = next(sizes)

    def after(number, device, command, slots):
        if number == sabotaged:
            spoil(device, command, slots)

    launched = launches(device_name, after)
    with Context(VALIDATE=1), pytest.raises(InternalError, match="the interpreter's values") as caught:
        train(device_name, rows)
    assert len(launched) == sabotaged
    assert "others at 1 of " in caught.value.got
    assert caught.value.hint.startswith("Please report it with this kernel:\nkernel ")


def test_sync_names_the_kernel_in_a_fault(device_name, launches):
    rows = next(sizes)
    launched = launches(device_name, lambda number, *launch: Failing() if number == 2 else None)
    with Context(SYNC=1), pytest.raises(KernelFault) as caught:
        train(device_name, rows)
    assert len(launched) == 2
    assert str(caught.value).startswith(f"kernel {launched[1]}: ")
    assert "the device reset itself" in str(caught.value)


def test_sync_changes_no_result(device_name):
    rows = next(sizes)
    with Context(SYNC=1):
        assert_trained(train(device_name, rows), rows)


def test_debug_2_logs_the_time_of_each_kernel(device_name, launches, caplog):
    rows = next(sizes)
    launched = launches(device_name)
    with caplog.at_level(logging.WARNING, "pluggrad"), Context(DEBUG=2):
        assert_trained(train(device_name, rows), rows)
    lines = [record.getMessage() for record in caplog.records if record.name == "pluggrad"]
    timed = [TIMED.fullmatch(line) for line in lines]
    assert [found[1] for found in timed if found] == launched
    assert len(launched) > 1


def test_debug_3_logs_the_source_of_each_kernel_that_is_compiled(device_name, launches, caplog):
    rows = next(sizes)
    launched = launches(device_name)
    with caplog.at_level(logging.WARNING, "pluggrad"), Context(DEBUG=3):
        train(device_name, rows)
        sources = [text for text in (r.getMessage() for r in caplog.records) if text.startswith("source of ")]
        caplog.clear()
        train(device_name, rows)
    assert {NAME.search(text)[0] for text in sources} == set(launched)
    assert all(text.count("\n") > 3 for text in sources)
    assert caplog.records, "the kernels run again"
    assert not any("source of" in record.getMessage() for record in caplog.records)


def test_without_debug_nothing_is_logged(device_name, caplog):
    with caplog.at_level(logging.DEBUG, "pluggrad"):
        train(device_name, next(sizes))
    assert not caplog.records


def test_debug_in_the_environment_shows_on_stderr(tmp_path):
    code = "from pluggrad import Tensor; print((Tensor([1.0, 2.0]) + 3).numpy().tolist())"
    environment = os.environ | {config.DEBUG.variable: "3", config.CACHE_DIR.variable: str(tmp_path)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "[4.0, 5.0]\n"
    assert "source of k" in result.stderr
    assert any(map(TIMED.fullmatch, result.stderr.splitlines()))

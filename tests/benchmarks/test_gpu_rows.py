"""The rows for GPUs, small and on the processor: that each runs, and finds what PyTorch finds."""

from __future__ import annotations

from dataclasses import fields

import pytest

from benchmarks import gpu_rows, workloads
from benchmarks.__main__ import hardware_name, read_options
from benchmarks.device_limits import TORCH_DEVICE_VARIABLE, DeviceProbe, torch_variables
from benchmarks.forms import Library, load
from benchmarks.limits import Limits
from benchmarks.programs import PROGRAMS
from benchmarks.worker import Worker
from benchmarks.workloads import WORKLOADS, Workload
from pluggrad import Tensor

SMALL = gpu_rows.Sizes(side=64, elements=1 << 10, rows=16, row=48, tokens=32, replayed=16)
ROWS = {row.name: row for row in gpu_rows.rows(SMALL) if row.form not in PROGRAMS}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows in their place, small."""
    monkeypatch.setattr(Tensor, "training", False)
    for name, row in ROWS.items():
        values = {field.name: getattr(row, field.name) for field in fields(row)}
        monkeypatch.setitem(WORKLOADS, name, Workload(**values | {"seconds": 0.001}))


def test_all_of_the_table_is_there():
    assert [*ROWS, *(row.name for row in gpu_rows.rows() if row.form in PROGRAMS)] != []
    assert {row.name for row in gpu_rows.rows()} == workloads._ON_GPU.keys()
    assert all(row.amount > 0 for row in gpu_rows.rows() if row.unit in ("GFLOP/s", "GB/s"))


@pytest.mark.parametrize("name", ROWS)
def test_rows_run(small, name):
    worker = Worker(load("pluggrad"))
    ours = worker.make({"work": name})
    assert ours["made"]
    assert ours["kernels"] >= 1
    assert worker.time({"works": [name], "seconds": 0.001})["seconds"][0] > 0


@pytest.mark.torch
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.comparable])
def test_rows_find_what_pytorch_finds(small, name):
    pytest.importorskip("torch", reason="needs PyTorch")
    ours, theirs = (Worker(load(library)).make({"work": name}) for library in ("pluggrad", "torch"))
    assert theirs["value"] == pytest.approx(ours["value"], rel=0.01)


def test_limits_are_the_best_that_anybody_measured():
    class Child:
        def __init__(self, answer):
            self.answer = answer

        def ask(self, do):
            assert do == "limits"
            return self.answer

    answers = ({"fma": 10.0, "stream": 3.0}, {}, {"fma": 7.0, "stream": 4.0})
    probe = DeviceProbe(lambda: [Child(answer) for answer in answers])
    limits = probe.measure()
    assert limits == Limits(10.0, 4.0, 1.0)
    assert probe.quiet(limits, Limits(9.0, 4.0, 1.0))
    assert not probe.quiet(limits, Limits(10.0, 3.0, 1.0))
    with pytest.raises(SystemExit, match="no library"):
        DeviceProbe(lambda: [Child({})]).measure()


def test_a_worker_tells_limits():
    assert Worker(Library("1", lambda _: None)).limits({}) == {}
    told = Worker(Library("1", lambda _: None, limits=lambda: (2.0, 3.0))).limits({})
    assert told == {"fma": 2.0, "stream": 3.0}


def test_options_of_a_run_on_a_device():
    options = read_options(["--set", "gpu", "--device", "cpu"])
    assert options.only == [*workloads.SETS["gpu"]]
    assert options.libs == ["torch", "torch.compile"]
    assert options.json.name == f"{hardware_name('cpu')}.json"
    assert options.json.name.startswith("cpu-")
    assert not set(workloads.SETS["gpu"]) & set(read_options([]).only)


def test_pytorch_runs_where_pluggrad_does():
    assert torch_variables("cuda:1") == {TORCH_DEVICE_VARIABLE: "cuda:1"}
    assert torch_variables("metal") == {TORCH_DEVICE_VARIABLE: "mps"}
    assert torch_variables("cpu") == torch_variables(None) == {}

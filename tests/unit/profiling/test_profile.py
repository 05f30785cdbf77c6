"""Profiles: the table, the trace and its format, the setting, and the command that profiles a script."""
from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from pluggrad import Tensor, config, jit, profile
from pluggrad.cli import main
from pluggrad.device.hookspecs import CopyFinished, KernelCompiled, KernelFinished, KernelInfo, PhaseTime
from pluggrad.device.registry import REGISTRY
from pluggrad.profiling.limits import Limits
from pluggrad.profiling.table import table_text, totals
from pluggrad.profiling.trace import trace
from pluggrad.target import DeviceId
from tests import deferred_device

CPU, GPU = DeviceId("cpu"), DeviceId("gpu", 1)
MATMUL = KernelInfo("k1", "sum_64_64", "out float32[4096]", "0 PARALLEL 64", 2_000_000, 500_000)
ADD = KernelInfo("k2", "add_64", "out float32[64]", "0 PARALLEL 64", 64, 768)
FINISHED = [KernelFinished(CPU, MATMUL, 10.0, 0.002), KernelFinished(GPU, ADD, 10.0, 0.001),
            KernelFinished(CPU, MATMUL, 10.002, 0.002), KernelFinished(CPU, ADD, 10.005, 0.0)]
COPIED = [CopyFinished(GPU, "transfer", 1000, 10.0015, 0.0005, CPU),
          CopyFinished(CPU, "upload", 8, 9.99, 0.001)]
PHASES = (PhaseTime("lower", 9.9, 0.01), PhaseTime("compile", 9.92, 0.03))
COMPILED = [KernelCompiled(CPU, MATMUL, "source", PHASES)]


def check_format(document: object) -> list[dict]:
    """The shape of the Trace Event Format, for the two kinds of events in use. Returns the slices."""
    document = json.loads(json.dumps(document, allow_nan=False))
    assert document["displayTimeUnit"] in ("ms", "ns")
    rows, slices = {}, []
    for event in document["traceEvents"]:
        assert event["ph"] in ("M", "X")
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["args"], dict)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            if event["name"] == "thread_name":
                assert event["args"]["name"] not in rows.values()
                rows[event["tid"]] = event["args"]["name"]
            continue
        assert set(event) == {"ph", "name", "cat", "ts", "dur", "pid", "tid", "args"}
        for key in ("ts", "dur"):
            assert isinstance(event[key], (int, float))
        assert event["dur"] >= 0
        slices.append(event | {"row": rows[event["tid"]]})
    for row in rows:
        ends = 0.0
        for event in [event for event in slices if event["tid"] == row]:
            assert event["ts"] >= ends - 1e-6, "slices of one row overlap"
            ends = event["ts"] + event["dur"]
    return slices


# ---- from events -----------------------------------------------------------------------------------------


def test_totals_are_by_device_and_kernel():
    rows = totals(FINISHED)
    assert [(str(row.device), row.kernel.title, row.calls) for row in rows] == [
        ("cpu", "sum_64_64", 2), ("gpu:1", "add_64", 1), ("cpu", "add_64", 1)]
    assert rows[0].seconds == 0.004
    assert rows[0].gflops == pytest.approx(1.0)
    assert rows[0].gbytes == pytest.approx(0.25)
    assert rows[2].gflops == 0.0  # it took no time that could be measured


def test_the_table_says_where_time_went():
    text = table_text(totals(FINISHED), COPIED, COMPILED, 0.01, {CPU: Limits(4e9, 1e9)})
    assert text == textwrap.dedent("""\
        device  kernel     calls  total ms  share  each us  GFLOP/s  GB/s     of limit
        cpu     sum_64_64      2      4.00    80%   2000.0     1.00  0.25  25% compute
        gpu:1   add_64         1      1.00    20%   1000.0     0.00  0.00
        cpu     add_64         1      0.00     0%      0.0     0.00  0.00   0% compute
        kernels: 4 runs of 3, 5.0 ms of 10.0
        copies: 1 transfer of 1,000 bytes in 0.5 ms, 1 upload of 8 bytes in 1.0 ms
        compiled: 1 kernels in 40.0 ms""")


def test_a_trace_has_a_row_for_each_device_and_one_for_compilation():
    slices = check_format(trace(9.0, FINISHED, COPIED, COMPILED))
    assert sorted({event["row"] for event in slices}) == ["compile", "cpu", "gpu:1"]
    kernel = next(event for event in slices if event["name"] == "sum_64_64")
    assert (kernel["row"], kernel["cat"], kernel["ts"], kernel["dur"]) == ("cpu", "kernel", 1e6, 2000.0)
    assert kernel["args"] == {
        "kernel": "k1", "buffers": MATMUL.buffers, "axes": MATMUL.axes, "operations": 2_000_000,
        "bytes": 500_000, "GFLOP/s": 1.0, "GB/s": 0.25}
    copy = next(event for event in slices if event["name"] == "transfer")
    assert (copy["row"], copy["cat"], copy["args"]["from"]) == ("gpu:1", "copy", "cpu")
    compiled = [event for event in slices if event["cat"] == "compile"]
    assert [(event["name"], event["dur"]) for event in compiled] == [
        ("lower sum_64_64", 10_000.0), ("compile sum_64_64", 30_000.0)]


def test_slices_that_clocks_make_overlap_follow_each_other():
    finished = [KernelFinished(CPU, ADD, 1.0, 0.5), KernelFinished(CPU, ADD, 1.2, 0.1),
                KernelFinished(CPU, ADD, 1.4, 0.3)]
    slices = check_format(trace(1.0, finished, [], []))
    assert [(event["ts"], event["dur"]) for event in slices] == [(0, 5e5), (5e5, 0), (5e5, 2e5)]


def test_an_empty_profile():
    assert check_format(trace(0.0, [], [], [])) == []
    with profile() as profiled:
        pass
    assert "kernels: 0 runs of 0" in str(profiled)


# ---- from Python -----------------------------------------------------------------------------------------


def test_a_block_is_profiled(device_name, tmp_path):
    file = tmp_path / "trace.json"
    x = Tensor(np.ones((64, 64), np.float32), device=device_name).realize()
    f = jit(lambda x: (x @ x).softmax(1).sum())
    f(x).realize()
    with profile(file) as profiled:
        for _ in range(3):
            result = f(x)
        assert result.item() == pytest.approx(64)
    f(x).realize()
    assert profiled.seconds > sum(row.seconds for row in profiled.kernels) > 0
    assert all(row.calls % 3 == 0 for row in profiled.kernels)
    assert sum(row.kernel.flops for row in profiled.kernels) > 2 * 64**3
    slices = check_format(json.loads(file.read_text()))
    assert {event["row"] for event in slices} == {device_name}
    assert sum(event["cat"] == "kernel" for event in slices) == sum(row.calls for row in profiled.kernels)
    assert all(event["args"]["GFLOP/s"] >= 0 for event in slices if event["cat"] == "kernel")
    assert str(profiled).splitlines()[1].startswith(device_name)
    profiled.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == file.read_text()
    assert not REGISTRY.observed


def test_devices_side_by_side_have_rows_of_their_own(tmp_path):
    deferred_device.install()
    try:
        with profile() as profiled:
            x = Tensor(np.arange(8, dtype=np.float32), device="ref").exp()
            y = (x.to("deferred") + 1).to("distant") * 2
            assert y.numpy()[0] == 4
            del x, y
    finally:
        gc.collect()
        deferred_device.remove()
    rows = {}
    for event in check_format(profiled.trace()):
        rows.setdefault(event["row"], []).append(event["name"])
    rows.pop("compile", None)
    assert set(rows) == {"ref", "deferred", "distant"}
    assert rows["deferred"].count("transfer") == rows["distant"].count("transfer") == 1
    assert "download" in rows["distant"]


def test_an_error_in_the_block_leaves_its_trace(tmp_path):
    file = tmp_path / "trace.json"

    def work() -> None:
        (Tensor([1.0], device="ref") + 1).realize()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), profile(file):
        work()
    assert any(event["cat"] == "kernel" for event in check_format(json.loads(file.read_text())))
    assert not REGISTRY.observed


def test_a_file_that_cannot_be_written_is_said_first(tmp_path):
    with pytest.raises(FileNotFoundError), profile(tmp_path / "missing" / "trace.json"):
        pytest.fail("the block ran")
    assert not REGISTRY.observed


# ---- from outside ----------------------------------------------------------------------------------------


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False,
                          env=os.environ | environment)


def test_the_setting_traces_a_whole_program(tmp_path):
    file = tmp_path / "trace.json"
    code = "from pluggrad import Tensor; print((Tensor([1.0, 2.0], device='ref') + 3).tolist())"
    result = python("-c", code, **{config.PROFILE.variable: str(file)})
    assert (result.stdout, result.stderr) == ("[4.0, 5.0]\n", "")
    slices = check_format(json.loads(file.read_text()))
    assert [event["name"] for event in slices if event["cat"] == "kernel"] == ["add_2"]


SCRIPT = """
import sys
from pluggrad import Tensor
from helper import number
print(__name__, sys.argv[1:], (Tensor([1.0, 2.0]) + number).device)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("number = 3\n")
    path = tmp_path / "script.py"
    path.write_text(SCRIPT + "(Tensor([1.0, 2.0]) + number).realize()\n")
    return path


def test_a_script_is_run_and_profiled(script, tmp_path):
    file = tmp_path / "trace.json"
    result = python("-m", "pluggrad", "run", "--profile", str(file), "--device", "ref", str(script),
                    "a", "--b")
    assert result.returncode == 0
    assert result.stdout == "__main__ ['a', '--b'] ref\n"
    assert result.stderr.splitlines()[0].split()[:3] == ["device", "kernel", "calls"]
    assert f"trace: {file}" in result.stderr
    assert any(event["name"] == "add_2" for event in check_format(json.loads(file.read_text())))


@pytest.mark.parametrize(("ending", "status", "said"), [
    ("sys.exit(3)", 3, ""), ("sys.exit()", 0, ""), ("sys.exit('no data')", 1, "no data\n"),
    ("Tensor([1.0, 2.0]) + Tensor([1.0, 2.0, 3.0])", 1, "ShapeError"),
])
def test_a_script_ends_as_it_would_by_itself(script, ending, status, said):
    script.write_text(SCRIPT + ending + "\n")
    result = python("-m", "pluggrad", "run", "--device", "ref", str(script))
    assert result.returncode == status
    assert said in result.stderr
    assert "kernels: 0 runs of 0" in result.stderr


def test_a_script_that_is_not_there(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["run", "nowhere.py"])
    assert caught.value.code == 2
    assert "nowhere.py is not a file" in capsys.readouterr().err

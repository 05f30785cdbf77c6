"""The benchmarks' own processes: they start, answer, and end with a status. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from benchmarks import stage_timers, turns, workloads
from benchmarks.__main__ import main
from benchmarks.programs import PROGRAMS
from benchmarks.stage_timers import StageTimers
from benchmarks.workloads import SETS, WORKLOADS, workload
from tests.architecture.source import ROOT

pytestmark = pytest.mark.device("cpu")


def test_every_place_that_is_timed_exists():
    for places in stage_timers.PLACES.values():
        for module, path in places:
            owner, name = stage_timers._found(module, path)
            assert callable(getattr(owner, name)), f"{module}.{path}"


def test_parts_hold_the_time_of_their_own(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stage_timers.time, "perf_counter", lambda: now[0])
    timers = StageTimers()

    def spend(seconds):
        now[0] += seconds

    inner = timers.timed("inner", spend)

    def outer_work():
        spend(1)
        inner(2)
        spend(4)
        inner(8)

    timers.timed("outer", outer_work)()
    assert timers.parts == {"inner": 10.0, "outer": 5.0}


def test_lenets_first_call_in_its_parts(fresh_cache):
    program = ["benchmarks.first_call", "pluggrad", "mnist_step"]
    command = [sys.executable, "-m", *program, repr(time.monotonic())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert sum(found["parts"].values()) == pytest.approx(found["seconds"])
    stages = ("autograd", "schedule", "tune", "lower", "render", "LLVM", "link", "trace, and the rest")
    assert all(found["parts"][stage] > 0 for stage in stages)
    assert found["process"] > found["seconds"]
    assert found["counters"]["compiled"] > 0


def test_a_run_writes_its_figures_and_names_what_is_left_out(tmp_path, capsys):
    path, asked = tmp_path / "figures.json", ["--only", "eager_add", "--libs", "numpy", "tinygrad"]
    status = main([*asked, "--rounds", "1", "--any-load", "--json", str(path)])
    data = json.loads(path.read_text())
    [floor] = data["floors"]
    assert status == (not floor["met"])
    libraries, absent = data["libraries"].keys(), data["absent"].keys()
    assert libraries >= {"pluggrad", "pluggrad, 1 thread", "numpy"}
    assert "tinygrad" in libraries ^ absent
    row = data["rows"]["eager_add"]
    assert row["values"]["numpy"] == pytest.approx(row["values"]["pluggrad"])
    assert "| eager_add |" in capsys.readouterr().out


def test_ctrl_c_keeps_the_rows_that_are_complete(tmp_path, capsys, monkeypatch):
    measured = []

    def measure_one(works, *rest):
        if measured:
            raise KeyboardInterrupt
        measured.append(works[0].name)
        return turns.measure(works, *rest)

    monkeypatch.setattr("benchmarks.__main__.measure", measure_one)
    path = tmp_path / "figures.json"
    asked = ["--only", "tiny_add", "eager_add", "--libs", "--rounds", "1", "--any-load", "--json", str(path)]
    assert main(asked) == 130
    assert list(json.loads(path.read_text())["rows"]) == measured
    assert "after 1 of 2 rows" in capsys.readouterr().err


def test_every_process_makes_the_same_inputs():
    for name in ("mlp_step", "gemm512", "xor100"):
        first, second = workload(name).arrays(), workload(name).arrays()
        assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_every_form_is_written_for_pluggrad():
    from pluggrad.testing import forms

    written = forms._FUNCTIONS.keys() | forms._STEPS.keys()
    assert {work.form for work in WORKLOADS.values()} <= written | {"replay", "matmul_tf32"} | PROGRAMS.keys()
    assert {work.form for name in ("table", "second") for work in SETS[name].values()} <= written


def test_every_criterion_is_of_a_row():
    assert workloads._REQUIRED.keys() | workloads._GOALS.keys() <= SETS["table"].keys()
    assert workloads._ON_GPU.keys() == SETS["gpu"].keys()
    assert not [name for name, work in WORKLOADS.items() if not work.required]

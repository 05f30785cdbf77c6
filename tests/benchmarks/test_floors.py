"""Floors, goals and tables on figures made up here."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import floors, report
from benchmarks.criteria import (
    ONE_THREAD,
    OURS,
    Beside,
    Kernels,
    OfLimit,
    OnDevice,
    SpeedUp,
    Within,
    best_peer,
    duration,
    on_device,
)
from benchmarks.limits import Limits
from benchmarks.startup import First, Firsts
from benchmarks.turns import Row, Turn
from benchmarks.workloads import NEIGHBORS, SETS, WORKLOADS, Workload

WORK = Workload("work", "work", "100 GFLOP", lambda rng: [], 100.0, "GFLOP/s")


def row(work=WORK, **seconds):
    turns = {name: [Turn(each, 1.0)] for name, each in seconds.items()}
    return Row(work, turns, [Limits(100.0, 50.0, 1.0)], cores=4)


# ---- criteria ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("criterion", "measured", "met"), [
    (Beside("torch", 1 / 1.5), {OURS: 3, "torch": 2}, True),
    (Beside("torch", 1 / 1.5), {OURS: 3.1, "torch": 2}, False),
    (Beside("best", 1.1), {OURS: 1.8, "torch": 2, "jax": 9}, True),
    (Beside("best", 1.1), {OURS: 1.9, "torch": 2, "jax": 9}, False),
    (Beside("best", 1.1, "fma"), {OURS: 1.1, "torch": 1.0}, True),  # 91 % of the limit
    (Beside("best", 1.1), {OURS: 1.1, "torch": 1.0}, False),
    (Beside("best", 1.0, "fma", 0.85), {OURS: 1.17, "torch": 1.0}, True),
    (Beside("best", 1.0, "fma", 0.85), {OURS: 1.19, "torch": 1.0}, False),
    (OfLimit("fma", 0.6), {OURS: 1.6}, True),
    (OfLimit("fma", 0.6), {OURS: 1.7}, False),
    (OfLimit("stream", 0.9), {OURS: 2.2}, True),
    (Within(1.5), {OURS: 1.5}, True),
    (Within(1.5), {OURS: 1.6}, False),
    (SpeedUp(0.75), {OURS: 1, ONE_THREAD: 3}, True),
    (SpeedUp(0.75), {OURS: 1, ONE_THREAD: 2.9}, False),
], ids=str)
def test_criteria(criterion, measured, met):
    assert floors.judged(row(**measured), criterion).met is met


def test_kernels_are_counted():
    measured = row(**{OURS: 1})
    assert not Kernels(1).judge(measured).met
    measured.kernels = 1
    assert Kernels(1).judge(measured).met
    measured.kernels = 2
    assert not Kernels(1).judge(measured).met


def test_without_its_peer_a_floor_is_missed_and_the_peer_named():
    measured = row(**{OURS: 1})
    measured.absent["torch"] = "ModuleNotFoundError: No module named 'torch'"
    found = floors.judged(measured, Beside("torch", 0.5))
    assert not found.met
    assert "No module named 'torch'" in found.note


def test_what_was_not_measured_is_missed():
    failed, unquiet = Row(WORK, absent={OURS: "no conv2d"}), Row(WORK, discarded=8)
    assert floors.judged(failed, Within(1)) == floors.Finding("-", False, "no conv2d")
    assert floors.judged(unquiet, Within(1)).note == "no quiet round in 8"


def test_a_wrong_result_is_missed_however_fast():
    measured = row(**{OURS: 1, "torch": 9, "jax": 9})
    measured.values = {OURS: 2.0, "torch": 1.0, "jax": 1.0}
    assert not floors.judged(measured, Beside("torch", 1)).met


def test_our_single_thread_is_no_peer():
    assert best_peer(row(**{OURS: 2, ONE_THREAD: 1, "jax": 3})) == "jax"
    assert best_peer(row(**{OURS: 2})) is None


@pytest.mark.parametrize(("seconds", "text"), [(1.5, "1.5 s"), (0.1234, "123 ms"), (0.00567, "5.67 ms"),
                                               (5e-6, "5 us"), (432.1, "432 s")])
def test_durations(seconds, text):
    assert duration(seconds) == text


# ---- devices beside the default one ----------------------------------------------------------------


OPENCL = on_device("opencl")
ON_OPENCL = OnDevice("opencl", "fma", 0.25)


@pytest.mark.parametrize(("seconds", "met"), [(3.9, True), (4.1, False)])
def test_a_device_has_a_floor_of_its_own(seconds, met):
    assert ON_OPENCL.judge(row(**{OURS: 1, OPENCL: seconds})).met is met


def test_a_device_is_no_peer_and_counts_only_where_it_was_asked_for():
    measured = row(**{OURS: 2, OPENCL: 1, "jax": 3})
    assert best_peer(measured) == "jax"
    work = replace(measured.workload, required=(ON_OPENCL,))
    measured.workload = work.on([])
    assert floors.of_rows([measured]) == []
    measured.workload = work.on(["opencl"])
    assert [verdict.met for verdict in floors.of_rows([measured])] == [True]
    del measured.turns[OPENCL]
    assert [verdict.met for verdict in floors.of_rows([measured])] == [False]


def test_without_peers_a_device_is_compared_with_the_default_one():
    measured = row(**{OURS: 1, OPENCL: 1})
    measured.values = {OURS: 2.0, OPENCL: 1.0}
    assert measured.differing() == [OPENCL]


# ---- floors --------------------------------------------------------------------------------------


def neighbors(size, *rates):
    return [Row(work, {OURS: [Turn(work.amount / rate, 4.0)]})
            for work, rate in zip(NEIGHBORS[size], rates, strict=True)]


def test_neighbor_sizes():
    groups = {100: neighbors(100, 90, 100, 110), 512: neighbors(512, 100, 124, 101)}
    assert floors.of_sizes(groups).met
    groups[512] = neighbors(512, 100, 124, 99)
    verdict = floors.of_sizes(groups)
    assert not verdict.met
    assert (verdict.figure, verdict.note) == ("1.25x at 512", "1 of 2 over: 512")
    groups[100] = neighbors(100, 130, 100, 100)  # the neighbor is faster
    assert floors.of_sizes(groups).note == "2 of 2 over: 100, 512"
    groups[100][0].turns.clear()
    assert floors.of_sizes(groups).note == "100: no quiet round"


def firsts(cold, second, compiled=0):
    made = {"scheduled": 1, "compiled": 30}
    parts = {"LLVM": cold / 2, "trace, and the rest": cold / 2}
    return Firsts([First(cold, cold + 1, parts, made)],
                  [First(second, second + 1, {}, {"scheduled": 0, "compiled": compiled})])


def test_first_results():
    limits = floors.StartLimits(2.0, 0.4)
    assert [v.met for v in floors.of_firsts("x", firsts(2.0, 0.4), limits)] == [True, True]
    assert [v.met for v in floors.of_firsts("x", firsts(2.1, 0.5), limits)] == [False, False]
    assert [v.met for v in floors.of_firsts("x", firsts(1.0, 0.1, compiled=1), limits)] == [True, False]
    assert [v.note for v in floors.of_firsts("x", "it broke", limits)] == ["it broke", "it broke"]
    assert [v.note for v in floors.of_firsts("x", Firsts(), limits)] == ["no quiet round"] * 2


def test_imports_are_compared_round_by_round():
    assert floors.of_imports({"numpy": [0.1, 0.9], "pluggrad's names": [0.2, 1.0]}).met
    assert not floors.of_imports({"numpy": [0.1, 0.9], "pluggrad's names": [0.3, 1.1]}).met
    assert not floors.of_imports({}).met


def test_the_floors_of_the_table_stand_in_their_rows():
    required = {name: [str(each) for each in work.required] for name, work in WORKLOADS.items()}
    assert required["mnist_step"] == [">= 1.5x the best peer"]
    assert required["gemm1024"] == [">= 1.1x the best peer or 90% of fma", ">= 85% of fma",
                                    "opencl >= 25% of fma"]
    assert required["conv3x3"] == [">= 1x the best peer or 90% of fma"]
    assert required["lnorm4k"] == [">= 80% of stream", "kernels <= 1"]
    assert required["softmax4k"] == [*required["lnorm4k"], "opencl >= 40% of stream"]
    assert required["transpose4k"] == [">= 60% of stream"]
    assert required["xor100"] == ["<= 2x torch's time"]
    assert required["tiny_add"] == ["<= 6 us"]


def test_a_row_of_the_second_set_requires_what_bounds_it():
    required = {"GFLOP/s": ">= 1x the best peer or 85% of fma", "GB/s": ">= 80% of stream"}
    for work in SETS["second"].values():
        assert [str(each) for each in work.required] == [required[work.unit]]


def test_the_second_set_has_a_mean():
    rows = [row(**{OURS: 1, "torch": 2, "jax": 3}), row(**{OURS: 1, "numpy": 0.61})]
    verdict = floors.of_mean(rows)
    assert (verdict.figure, verdict.met) == ("1.10x", True)  # of 2 and 0.61
    assert not floors.of_mean([*rows, row(**{OURS: 1, "jax": 0.9})]).met
    unmeasured = floors.of_mean([*rows, row(**{OURS: 1})])
    assert (unmeasured.met, unmeasured.note) == (False, "without a ratio: work")


# ---- tables and files ----------------------------------------------------------------------------


def test_a_table_is_aligned_markdown():
    assert report.table(["name", "ms", "note"], [["a", "1.5", "x"], ["long one", "12", ""]]).splitlines() == [
        "| name     |  ms | note |",
        "| -------- | --: | ---- |",
        "| a        | 1.5 | x    |",
        "| long one |  12 |      |",
    ]


MEMORY = {"lenet": {OURS: 40.0, "torch": 90.0}, "chain": {OURS: 200.0, "torch": 190.0},
          "gpt_block": {OURS: 10.0, "torch": "not installed"}}


def test_memory_is_held_against_the_peer():
    even, over, absent = floors.of_memory(MEMORY)
    assert (even.figure, even.met, even.note) == ("40 MiB", True, "torch: 90 MiB")
    assert not over.met
    assert (absent.met, absent.note) == (False, "not installed")


FACTS = {"machine": {"processor": "A chip", "cores": 4, "commit": "abc", "any_load": False},
         "libraries": {OURS: "1", "torch": "2"}, "absent": {"jax": "not installed"}}


def results():
    measured = row(WORKLOADS["gemm1024"], **{OURS: 1, "torch": 2})
    measured.absent["jax"] = "not installed"
    lenet = {OURS: firsts(1.5, 0.2), "torch": Firsts(), "jax": "it broke"}
    return report.Results({"gemm1024": measured}, {100: neighbors(100, 1, 2, 1)},
                          {"numpy": [0.1], "pluggrad's names": [0.2]}, firsts(1.0, 0.2), lenet,
                          firsts(2.0, 0.1), MEMORY)


def test_the_report_has_every_table_and_says_what_is_missing():
    found = results()
    verdicts = [*floors.of_rows(list(found.rows.values())), floors.of_sizes(found.sizes)]
    text = report.text(FACTS, found, verdicts, [OURS, "torch"])
    line = next(line for line in text.splitlines() if line.startswith("| gemm1024"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["gemm1024", "GFLOP/s", "2.147", "1.074", "2.00x torch", "2% fma",
                     ">= 1.1x the best peer or 90% of fma; >= 85% of fma; opencl >= 25% of fma",
                     "MISSED", "1 of 1"]
    for piece in ("- gemm1024, jax: not installed", "- LeNet's first call, jax: it broke", "## Imports",
                  "- LeNet's first call, torch: no quiet round", "| LLVM ", "2.00x at 100", "| 100 ",
                  "A chip, 4 cores, commit abc; pluggrad 1, torch 2", "jax is left out: not installed",
                  "## ResNet-18's first call", "| gpt_block |"):
        assert piece in text


def test_figures_are_written_as_json_and_the_report_beside_them(tmp_path):
    verdicts = [floors.Verdict("a", "1", "2", True)]
    path = report.write(FACTS, results(), verdicts, "as shown", tmp_path / "figures.json")
    assert path.with_suffix(".md").read_text() == "as shown\n"
    data = json.loads(path.read_text())
    assert data["rows"]["gemm1024"]["turns"]["torch"] == [{"seconds": 2, "busy": 1.0}]
    assert data["first_call"][OURS]["cold"][0]["parts"]["LLVM"] == 0.75
    assert data["memory"]["lenet"] == {OURS: 40.0, "torch": 90.0}
    assert data["floors"][0]["met"] is True

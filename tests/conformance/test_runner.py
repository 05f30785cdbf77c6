"""The runner: one misbehaving test is one named failure; expected failures are strict; what a report says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pluggrad.errors import FileFormatError
from pluggrad.target import Capabilities, MatrixUnit
from pluggrad.testing.conformance.collect import collect
from pluggrad.testing.conformance.outcome import Description, Failure, Outcome
from pluggrad.testing.conformance.registry import (
    LEVELS,
    SUITE_VERSION,
    TESTS,
    ConformanceTest,
    Point,
    conformance,
    product,
)
from pluggrad.testing.conformance.requirement import ANY, requires
from pluggrad.testing.conformance.results import Results, select
from pluggrad.testing.conformance.xfails import read_xfails
from tests.fake_plugins.install import write_metadata

FRAGILE = Path(__file__).parent / "fragile.py"
NAMES = frozenset({"float32", "int32"})
CAPABILITIES = Capabilities(dtypes=NAMES, arithmetic=NAMES, features=frozenset({"graph"}))
DESCRIPTION = Description("acme", "Acme One", "driver 7", "pluggrad-acme", "1.0", "acme1", CAPABILITIES)


@pytest.fixture
def fragile(conformance):
    def run(*arguments: str, does: str = "", **variables: str):
        return conformance("fragile", "-k", "L0/launch/size", *arguments, module=FRAGILE, FRAGILE=does,
                           **variables)
    return run


def test_a_description_passes_between_processes():
    units = (MatrixUnit(16, 16, 16, "float16"), MatrixUnit(8, 8, 8, "float32", piece_bytes=0))
    full = replace(CAPABILITIES, widening=(("float16", 2.0),), matrix_units=units)
    for capabilities in (CAPABILITIES, full):
        sent = replace(DESCRIPTION, capabilities=capabilities)
        assert Description.from_data(json.loads(json.dumps(sent.data()))) == sent


# ---- one failure each, and the others go on ----------------------------------------------------------------
@pytest.mark.parametrize(("deed", "says"), [
    ("hang", "no answer within 2 s"),
    ("segfault", "killed by SIGSEGV"),
    ("exit", "the process ended with status 3 and gave no answer"),
    ("quit", "SystemExit"),
    ("fault", "KernelFault: load: expected a kernel without a seven, got one with a seven"),
])
@pytest.mark.parametrize("jobs", ["1", "3"])
def test_what_misbehaves_is_one_named_failure(fragile, deed, says, jobs):
    done = fragile("--jobs", jobs, "--time-limit", "2", does=f"64={deed}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("FAILED  ") == 1
    assert "FAILED  L0/launch/size/64" in done.stdout
    assert says in done.stdout
    assert "again: python -m pluggrad conformance fragile -k L0/launch/size/64" in done.stdout
    assert "FAILED: 1 of 4 tests" in done.stdout


def test_the_output_of_a_failure_is_kept_and_says_where_it_hung(fragile):
    done = fragile("--time-limit", "2", does="7=hang,64=fault,1025=segfault")
    assert "about to hang" in done.stdout
    assert "in hang" in done.stdout
    assert "about to fail" in done.stdout
    assert "about to crash" in done.stdout
    assert "Fatal Python error: Segmentation fault" in done.stdout
    assert "FAILED: 3 of 4 tests" in done.stdout


def test_all_passed(fragile):
    done = fragile()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the chosen 4 tests passed" in done.stdout
    assert "device fragile: NumPy interpreter, fake-fragile 1.2" in done.stdout
    assert "\r" not in done.stdout, "a progress bar where there is no terminal"


def test_a_device_that_cannot_be_opened_is_not_tested(fragile):
    done = fragile(FRAGILE_OPEN="unavailable")
    assert done.returncode == 2
    assert "fragile is in use elsewhere" in done.stderr


def test_a_device_that_crashes_when_it_is_opened_fails(fragile):
    done = fragile(FRAGILE_OPEN="segfault")
    assert done.returncode == 1
    assert "the device does not open: opening the device: killed by SIGSEGV" in done.stdout
    assert "4 need the device does not open" not in done.stdout


def test_unknown_devices_and_selections_are_wrong_usage(conformance):
    assert conformance("fragile", "--level", "L9", module=FRAGILE).returncode == 2
    assert conformance("fragile", "-k", "no such", module=FRAGILE, FRAGILE="").returncode == 2


def test_an_exact_id_selects_that_test_alone(conformance):
    done = conformance("fragile", "-v", "-k", "L0/launch/size/1", module=FRAGILE, FRAGILE="")
    assert "L0/launch/size/1025" not in done.stdout
    assert "the chosen 1 tests passed" in done.stdout


def test_a_quick_look_leaves_out_no_test():
    suite = collect()
    few = select(suite, None, every=9).chosen
    assert {test.body for test in few} == {test.body for test in suite.values()}
    assert len(few) < len(suite) / 6
    assert not select(suite, None, every=9).whole


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to another process on Windows")
def test_ctrl_c_ends_it_and_says_what_was_run(tmp_path):
    (tmp_path / "fragile.py").write_text(FRAGILE.read_text(encoding="utf-8"), encoding="utf-8")
    write_metadata(tmp_path, "fake-fragile", "1.2", {"pluggrad.devices.v1": {"fragile": "fragile"}})
    command = [sys.executable, "-u", "-m", "pluggrad", "conformance", "fragile", "-v", "--jobs", "1", "-k",
               "L0/launch/size"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FRAGILE": "64=hang"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "L0/launch/size/7" in line:  # the next one hangs
                break
        stopped_at = time.monotonic()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=300)[0]
    assert process.returncode == 130
    assert "ERROR  stopped by Ctrl-C" in rest
    assert "FAILED: 0 of 2 tests, 2 not run" in rest
    assert time.monotonic() - stopped_at < 25, "it waited for the test that hangs"


# ---- expected failures -------------------------------------------------------------------------------------
def test_expected_failures_are_strict(fragile, tmp_path):
    file = tmp_path / "xfails"
    file.write_text("# known\nL0/launch/size/64  the driver is at fault\n")
    done = fragile("--xfails", str(file), does="64=fault")
    assert done.returncode == 0, done.stdout
    assert "xfailed" in done.stdout
    done = fragile("--xfails", str(file))
    assert done.returncode == 1
    assert "PASSED, though expected to fail  L0/launch/size/64" in done.stdout
    assert "the driver is at fault" in done.stdout


def test_a_stale_id_is_an_error(fragile, tmp_path):
    file = tmp_path / "xfails"
    file.write_text("L0/launch/size/65  gone\n")
    done = fragile("--xfails", str(file))
    assert done.returncode == 1
    assert "ERROR  expected failure is stale: L0/launch/size/65: there is no such test" in done.stdout


@pytest.mark.parametrize("text", ["L0/launch/size/1\n", "L0/launch/size/1  a\nL0/launch/size/1  b\n"])
def test_a_line_without_a_reason_and_a_second_line_are_refused(tmp_path, text):
    file = tmp_path / "xfails"
    file.write_text(text)
    with pytest.raises(FileFormatError, match="test-id  reason"):
        read_xfails(file)


# ---- the report --------------------------------------------------------------------------------------------
def test_the_report_says_what_was_run_and_what_was_not(fragile, tmp_path):
    file = tmp_path / "out.json"
    fragile("--report", str(file), "--time-limit", "2", does="7=hang,64=fault")
    found = json.loads(file.read_text())
    assert (found["suite"], found["passed"], found["complete"]) == (SUITE_VERSION, False, False)
    assert found["device"]["distribution"] == "fake-fragile"
    assert found["device"]["version"] == "1.2"
    assert found["device"]["arch"] == "numpy"
    assert "float32" in found["device"]["capabilities"]["dtypes"]
    assert found["counts"]["L0"] == {"passed": 2, "failed": 2}
    assert found["totals"]["failed"] == 2
    failures = {failure["id"]: failure for failure in found["failures"]}
    assert failures.keys() == {"L0/launch/size/7", "L0/launch/size/64"}
    assert failures["L0/launch/size/7"]["ending"] == "killed"
    assert failures["L0/launch/size/64"]["failure"]["expected"] == "a kernel without a seven"
    assert "KernelFault" in failures["L0/launch/size/64"]["failure"]["traceback"]
    assert found["durations"].keys() == {f"L0/launch/size/{n}" for n in (1, 7, 64, 1025)}
    assert ["ADD", "float32", "odd"] in found["uncovered"]


# ---- selecting and judging ---------------------------------------------------------------------------------
def made(id: str, needs=ANY, since: str = "1.0", covers: tuple[Point, ...] = ()) -> ConformanceTest:
    return ConformanceTest(id, id[:2], lambda subject: None, {}, needs, covers, "a defect", since, False,
                           False, None)


def judged(*tests: ConformanceTest, failing: tuple[str, ...] = ()) -> Results:
    selection = select({test.id: test for test in tests}, DESCRIPTION)
    results = Results(selection, DESCRIPTION)
    for test in selection.to_run:
        bad = test.id in failing
        results.add(test, Outcome("failed" if bad else "passed", 0.1, Failure("wrong") if bad else None))
    return results


def test_what_a_device_does_not_declare_is_not_applicable_and_not_passed():
    found = judged(
        made("L1/a"), made("L1/b", requires(dtype="float16")), made("L4/c", requires(feature="peer")),
        made("L4/d", requires(feature="graph", dtype=["int32", "float32"])),
        made("L0/e", requires(without_feature="graph")), made("L0/f", requires(without_dtype="int8")))
    assert found.ok
    assert set(found.outcomes) == {"L1/a", "L4/d", "L0/f"}
    assert found.not_applicable() == {"dtype float16": 1, "feature peer": 1, "no feature graph": 1}
    assert found.counts()["L1"] == {"passed": 1, "not applicable": 1}


def test_a_new_test_is_advisory_for_one_version_of_the_suite(monkeypatch):
    assert judged(made("L1/a", since="1.1"), failing=("L1/a",)).ok is False
    monkeypatch.setattr("pluggrad.testing.conformance.registry.SUITE_VERSION", "1.1")
    found = judged(made("L1/a", since="1.1"), made("L1/b"), failing=("L1/a",))
    assert found.ok
    assert found.counts()["L1"] == {"advisory": 1, "passed": 1}
    assert judged(made("L1/b"), failing=("L1/b",)).ok is False


def test_what_was_not_run_is_not_ok():
    selection = select({"L1/a": made("L1/a")}, DESCRIPTION)
    assert not Results(selection, DESCRIPTION).ok


def test_points_are_covered_by_tests_that_were_run():
    point = Point("ADD", "float32", "odd")
    assert point in judged(made("L1/a")).uncovered()
    assert point not in judged(made("L1/a", covers=(point,))).uncovered()
    assert point in judged(made("L1/a", requires(dtype="int8"), covers=(point,))).uncovered()
    assert not any(p.dtype == "float64" for p in judged(made("L1/a")).uncovered())


def test_a_declaration_makes_a_test_of_each_case():
    try:
        @conformance("L1", "sample", cases=product(op=("ADD",), dtype=("int8", "int16"), layout=("odd",)),
                     requires=lambda op, dtype, layout: requires(dtype=dtype), suggests="{op} of {dtype}")
        def sample(subject, op, dtype, layout):
            """Not used."""

        found = TESTS["L1/sample/ADD/int16/odd"]
        assert found.covers == (Point("ADD", "int16", "odd"),)
        assert found.suggests == "ADD of int16"
        assert found.requires == requires(dtype="int16")
        with pytest.raises(ValueError, match="two conformance tests"):
            conformance("L1", "sample", cases=[{"op": "ADD", "dtype": "int8", "layout": "odd"}])(sample)
    finally:
        for id in [id for id in TESTS if id.startswith("L1/sample/")]:
            del TESTS[id]


def test_every_test_of_the_suite_says_what_its_failure_suggests():
    suite = collect()
    assert [test.id for test in suite.values() if not test.suggests] == []
    assert {test.level for test in suite.values()} <= LEVELS.keys()

"""Each installed device keeps its contract and has what it declares: levels 0 and 4, no expected failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.conftest import run_suite


@pytest.mark.slow
def test_contract_and_optional_features(device_name, tmp_path):
    report = tmp_path / "report.json"
    done = run_suite(Path(), device_name, "--level", "L0,L4", "--jobs", "2", "--time-limit", "60",
                     "--report", str(report), limit_s=550)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(report.read_text())["counts"]
    assert counts["L0"]["passed"] > 80
    assert counts["L4"]["passed"] > 15

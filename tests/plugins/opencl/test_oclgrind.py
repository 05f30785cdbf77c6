"""Kernels under oclgrind, an OpenCL device that looks at every access: `make test-oclgrind`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.plugins.opencl.oclgrind_cases import CASES, FAULTS

pytestmark = pytest.mark.oclgrind


@pytest.fixture
def complaints(tmp_path: Path):
    """`complaints(name, schedule)`: what oclgrind writes while that case runs."""
    log = tmp_path / "oclgrind.log"
    variables = {
        "OCLGRIND_LOG": str(log), "OCLGRIND_DATA_RACES": "1", "OCLGRIND_UNINITIALIZED": "1",
        "OCLGRIND_BUILD_OPTIONS": "-cl-opt-disable",  # its optimizer writes instructions that it cannot check
        "PLUGGRAD_CACHE": "0"}

    def run(name: str, schedule: str) -> str:
        made = subprocess.run(
            [sys.executable, "-m", "tests.plugins.opencl.oclgrind_cases", name], cwd=ROOT, text=True,
            env=os.environ | variables | {"PLUGGRAD_OPENCL_SCHEDULE": schedule}, capture_output=True,
            timeout=300, check=False)
        assert made.returncode == 0, made.stderr  # says nothing of what oclgrind found
        return log.read_text()

    return run


def test_the_device_is_oclgrind():
    import pyopencl

    assert [platform.name for platform in pyopencl.get_platforms()] == ["Oclgrind"]


@pytest.mark.parametrize("schedule", ["cpu", "gpu"])
@pytest.mark.parametrize("name", [case.__name__ for case in CASES])
def test_a_kernel_touches_only_what_is_its_own(complaints, name, schedule):
    assert complaints(name, schedule) == ""


@pytest.mark.parametrize(("name", "complaint"), [
    ("beyond_the_end", "Invalid write of size 4"), ("race", "data race"), ("uninitialized", "ninitialized")])
def test_a_kernel_with_a_fault_is_reported(complaints, name, complaint):
    assert name in FAULTS
    assert complaint in complaints(name, "cpu")

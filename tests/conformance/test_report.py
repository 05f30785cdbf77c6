"""A report that a plugin ships shows in `python -m pluggrad devices -v`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pluggrad.testing.conformance.shipped import one_line
from tests.conformance.conftest import run_suite
from tests.fake_plugins.install import write_metadata

FRAGILE = Path(__file__).parent / "fragile.py"


@pytest.fixture
def package(tmp_path):
    """The device `fragile` in a package of its own, as a wheel would install it."""
    folder = tmp_path / "fake_fragile"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""A plugin."""\n')
    (folder / "plugin.py").write_text(FRAGILE.read_text(encoding="utf-8"), encoding="utf-8")
    groups = {"pluggrad.devices.v1": {"fragile": "fake_fragile.plugin"}}
    write_metadata(tmp_path, "fake-fragile", "1.2", groups)
    return folder


def listed(package: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "FRAGILE": ""}
    command = [sys.executable, "-m", "pluggrad", "devices", "-v"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300,
                          check=False).stdout


def test_a_shipped_report_is_shown(package):
    shipped = package / "conformance.json"
    assert "conformance:" not in listed(package)
    run_suite(package.parent, "fragile", "-k", "L0/launch/size/7", "--report", str(shipped), FRAGILE="")
    assert json.loads(shipped.read_text())["passed"]
    assert "conformance: suite 1.0 passed a part of the tests: 1 of 1 tests" in listed(package)


@pytest.mark.parametrize("text", ["", "[]", "{}", "no JSON"])
def test_what_is_no_report_is_left_out(package, text):
    (package / "conformance.json").write_text(text)
    assert "conformance:" not in listed(package)


def test_a_report_that_was_spoiled_does_not_stop_the_list():
    report = {"suite": "1.0", "core": "0.1", "totals": [], "device": None, "passed": 1, "complete": 1,
              "uncovered": []}
    assert one_line(report).startswith("conformance.json cannot be read: ")

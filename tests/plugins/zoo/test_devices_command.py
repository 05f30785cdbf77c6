"""`python -m pluggrad devices` and `env`: every kind of broken plugin is a row."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.fake_plugins.install import distributions

# device -> what its state must be; the rest of the zoo's names are checked to be there
STATES = {
    "acme": {"ready"}, "absent": {"unavailable"}, "heavy": {"ready"}, "slow": {"failed@import"},
    "importerror": {"failed@import"}, "exits": {"failed@import"}, "wronghook": {"failed@register"},
    "wrongsignature": {"failed@register"}, "wrongtype": {"failed@backend"}, "proberaises": {"failed@probe"},
    "newer": {"failed@import"}, "demanding": {"failed@backend"},
    "segfault": {"crashed@probe"}, "twin": {"blocked"}, "opencl": {"shadowed"}, "future": {"incompatible"},
    "ref": {"ready"},
}


@pytest.fixture
def everything(run):
    """`devices --json` with the whole zoo installed."""
    return run("-m", "pluggrad", "devices", "--json", "--time-limit", "20", plugins=tuple(distributions()))


def test_every_kind_of_broken_plugin_is_a_row_and_the_others_work(everything):
    assert everything.returncode == 0, everything.stderr
    report = json.loads(everything.stdout)
    states: dict[str, set[str]] = {}
    for row in report["devices"]:
        if row["distribution"] == "pluggrad-opencl":
            continue  # the real one, whose name a fake plugin claims
        states.setdefault(row["device"], set()).add(row["state"])
    assert {name: states[name] for name in STATES} == STATES
    rows = {row["device"]: row for row in report["devices"]}
    assert rows["heavy"]["import_loads"] == ["numpy"]
    assert rows["acme"]["count"] == 2
    assert rows["acme"]["about"] == "acme driver 7"
    assert rows["slow"]["reason"] == "no answer within 20 s"
    assert "a_package_that_nobody_has" in rows["importerror"]["traceback"]
    if sys.platform != "win32":
        assert rows["segfault"]["reason"] == "killed by SIGSEGV"
        assert "fake_segfault" in rows["segfault"]["traceback"]
    assert all(row["fix"] for row in report["devices"] if row["state"].startswith(("failed", "crashed")))
    assert report["default"]["device"] == "acme"
    assert [row["device"] for row in report["devices"] if row["default"]] == ["acme"]


def test_the_table_marks_the_default_and_says_why(run):
    result = run("-m", "pluggrad", "devices", plugins=("fake-acme", "fake-absent", "fake-heavy"))
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["device", "state", "count", "plugin", "note"]
    assert any(line.split()[:6] == ["*", "acme", "ready", "2", "fake-acme", "1.0"] for line in lines)
    assert any(line.strip() == "try: buy one" for line in lines)
    assert any(line.endswith("its import loads numpy") for line in lines)
    assert lines[-1] == "* default: acme: highest tier that works (20)"


def test_the_default_by_environment_is_marked(run):
    result = run("-m", "pluggrad", "devices", plugins=("fake-acme", "fake-absent"), DEVICE="absent,acme")
    assert "* default: acme: the first of PLUGGRAD_DEVICE=absent,acme that opens" in result.stdout
    assert "warning: PLUGGRAD_DEVICE skips 'absent'" in result.stdout


def test_without_a_usable_default_the_exit_status_says_so(run):
    result = run("-m", "pluggrad", "devices", DEVICE="nobody")
    assert result.returncode == 1
    assert "no default: no plugin provides device 'nobody'" in result.stdout


def test_verbose_shows_capabilities_tracebacks_and_a_smoke_test(run):
    result = run("-m", "pluggrad", "devices", "-v", "--json", plugins=("fake-acme", "fake-import-error"))
    rows = {row["device"]: row for row in json.loads(result.stdout)["devices"]}
    assert rows["acme"]["state"] == "failed@smoke"  # it opens, and runs no kernel
    text = run("-m", "pluggrad", "devices", "-v").stdout
    assert "ModuleNotFoundError: No module named 'a_package_that_nobody_has'" in text
    assert "tier 20, imported in" in text


def test_env_reports_versions_devices_and_settings_without_the_home_folder(run):
    result = run("-m", "pluggrad", "env", plugins=("fake-acme",), DEBUG="1", NOTHING="x")
    assert result.returncode == 0, result.stderr
    for text in ("fake-acme 1.0", "numpy ", "python 3.", "PLUGGRAD_DEBUG=1", "PLUGGRAD_NOTHING=x (of"):
        assert text in result.stdout
    assert str(Path.home()) not in result.stdout

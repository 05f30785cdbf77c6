"""`python -m pluggrad bench`: rows on a device, beside its limits. No figure is judged here."""
from __future__ import annotations

import json

import pytest

from pluggrad.cli import bench, main
from pluggrad.errors import DeviceError
from pluggrad.profiling.limits import Limits
from pluggrad.testing.workloads import SETS

LIMITS = Limits(1e12, 1e11)


def test_rows_are_timed_and_written(device_name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure", lambda place: LIMITS)
    monkeypatch.setattr(bench, "set_default_device", lambda name: None)
    monkeypatch.setattr(bench, "default_device", lambda: device_name)
    file = tmp_path / "figures.json"
    assert main(["bench", "tiny_add", "--device", device_name, "--seconds", "0", "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{device_name}: at most 1000 GFLOP/s and 100.0 GB/s, as measured"
    assert lines[2].split()[0] == "tiny_add"
    figures = json.loads(file.read_text())
    assert figures["limits"] == {"operations": 1e12, "bytes": 1e11}
    assert figures["rows"][0]["seconds"] > 0


@pytest.mark.parametrize(("row", "limit"), [("gemm512", 1e12), ("sum16m", 1e11)])
def test_a_row_is_held_against_what_bounds_it(row, limit, monkeypatch):
    work = SETS["table"][row]
    monkeypatch.setattr(bench, "_repeated", lambda call, seconds: 0.01)
    found = bench.timed(work, lambda work: lambda: None, 0, LIMITS)
    assert found.share == pytest.approx(work.amount * 1e9 / 0.01 / limit)
    assert (found.gflops is None) == (work.unit == "GB/s")
    assert bench.timed(work, lambda work: lambda: None, 0, None).share is None


def test_what_a_device_cannot_compute_is_named():
    def form(work):
        raise DeviceError("no such thing")

    found = bench.timed(SETS["table"]["gemm512"], form, 0, LIMITS)
    assert found.problem == "no such thing"
    assert bench._cells(found)[-1] == "no such thing"


def test_an_unknown_row_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "gemm3"])
    assert "no row is called gemm3" in capsys.readouterr().err

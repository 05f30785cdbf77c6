"""Options of commands: what cannot be used is refused in one line, before any work."""

from __future__ import annotations

import pytest

from pluggrad import cli
from pluggrad.config import DEBUG


@pytest.mark.parametrize(("arguments", "said"), [
    (["run"], "the following arguments are required: script\n"),
    (["run", "--profile", "nowhere/x.json", "s.py"], "cannot be written: there is no folder nowhere"),
    (["bench", "--json", "nowhere/x.json"], "nowhere/x.json cannot be written: there is no folder nowhere"),
    (["bench", "--json", "."], ". is a folder: name a file"),
    (["bench", "--seconds", "-1"], "expected seconds of at least 0, got '-1'"),
    (["bench", "--seconds", "nan"], "expected seconds of at least 0, got 'nan'"),
    (["conformance", "ref", "--report", "nowhere/x"], "cannot be written: there is no folder nowhere"),
    (["conformance", "ref", "--time-limit", "0"], "expected seconds above 0, got '0'"),
    (["conformance", "ref", "--xfails", "nowhere"], "nowhere is not a file"),
    (["conformance", "ref", "--jobs", "0"], "expected a number of at least 1, got '0'"),
    (["devices", "--time-limit", "inf"], "expected seconds above 0, got 'inf'"),
    (["devices", "--time-limit", "soon"], "expected seconds above 0, got 'soon'"),
])
def test_what_no_command_can_use_is_refused(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_device_is_not_written_below_a_file(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.main(["new-device", "acme", "--folder", str(tmp_path / "file" / "acme")]) == 2
    assert "error: new-device: expected a folder that can be made and written" in capsys.readouterr().err


def test_a_report_shows_a_setting_that_is_refused(monkeypatch):
    from pluggrad.cli import env

    monkeypatch.setenv("PLUGGRAD_DEBUG", "loud")
    DEBUG.forget()
    try:
        told = "\n".join(env._settings())
        assert "PLUGGRAD_DEBUG=loud (refused: PLUGGRAD_DEBUG: expected an integer, got 'loud')" in told
    finally:
        monkeypatch.undo()
        DEBUG.forget()

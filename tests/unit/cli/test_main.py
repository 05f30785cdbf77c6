"""The command line: dispatch, usage, errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pluggrad import cli
from pluggrad.errors import DeviceError


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_usage_lists_every_command(capsys, arguments):
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.COMMANDS)


def test_an_unknown_command_is_refused(capsys):
    assert cli.main(["devise"]) == 2
    assert "unknown command 'devise'" in capsys.readouterr().err


@pytest.mark.parametrize(("raised", "status", "message"), [
    (DeviceError("it broke"), 2, "error: it broke\n"), (KeyboardInterrupt(), 130, "")])
def test_errors_are_one_line_and_a_status(capsys, monkeypatch, raised, status, message):
    from pluggrad.cli import env

    def fail(arguments):
        raise raised

    monkeypatch.setattr(env, "main", fail)
    assert cli.main(["env"]) == status
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_explains_itself(command):
    arguments = [sys.executable, "-m", "pluggrad", command, "--help"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: python -m pluggrad {command}")


def test_usage_loads_no_command():
    code = ("import sys; from pluggrad.cli import main; main([])\n"
            "print([m for m in sys.modules if 'numpy' in m or m.startswith('pluggrad.cli.')])")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"

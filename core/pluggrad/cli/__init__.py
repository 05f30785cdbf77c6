"""`python -m pluggrad COMMAND`, also installed as `pluggrad`; a command is a module imported on demand."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from pluggrad.errors import PluggradError

# command -> what it does; the module pluggrad.cli.<command> has `main(arguments) -> exit status`
COMMANDS: Final = {
    "devices": "which devices are installed, which work, and why others do not",
    "conformance": "whether a device keeps its contract: the tests that a plugin has to pass",
    "explain": "an expression in every stage, from its graph to the commands that run",
    "run": "a script, and where its time goes: a table of kernels, and a trace with --profile FILE",
    "bench": "how fast a device computes the rows of the benchmark, beside what it can reach",
    "tune": "a script, while the fastest schedule of each of its kernels is searched for and kept",
    "env": "versions, devices and settings: what an issue report needs",
    "new-device": "write a device plugin of one's own: a distribution that works as it is",
    "kernel-language": "the instructions that a device's renderer receives",
    "cache": "what the disk cache holds, and emptying it",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Exit status: 0 done, 1 done with a bad result, 2 an error or wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        print(f"pluggrad: unknown command {command!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    try:
        status = import_module(f"pluggrad.cli.{command.replace('-', '_')}").main(arguments[1:])
    except PluggradError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return int(status)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name.ljust(width)}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: python -m pluggrad COMMAND [-h] ...", "", *rows, "",
                      "COMMAND -h lists the options of a command."])

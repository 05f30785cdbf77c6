"""What commands take: types for argparse, which refuse what no command could use before any work begins."""
from __future__ import annotations

import argparse
import math
import os
from pathlib import Path


def add_script(parser: argparse.ArgumentParser) -> None:
    """`[--device NAME] SCRIPT ...`, for commands that run one: `device`, `script` and its `arguments`."""
    parser.add_argument("--device", metavar="NAME", help="the default device of the script")
    parser.add_argument("script", type=readable_file, help="a Python file")
    arguments = parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script is given")
    arguments.required = False  # or it is listed as missing, too, where the script is


def readable_file(text: str) -> Path:
    """A file that exists."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return path


def writable_file(text: str) -> Path:
    """A file that can be written, or made in its folder; it is not touched."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: name a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: permission denied")
    return path


def count(text: str) -> int:
    """An integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def duration(text: str) -> float:
    """Seconds: a finite number of at least 0."""
    seconds = _number(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds of at least 0, got {text!r}")
    return seconds


def time_limit(text: str) -> float:
    """Seconds: a finite number above 0."""
    seconds = _number(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return seconds


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # no limit holds for it

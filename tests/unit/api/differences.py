"""The table of docs/differences.md, to be run in either library."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[3] / "docs" / "differences.md"
ROW = re.compile(r"^\| `([^`]+)`(?:, there `([^`]+)`)? \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


class Difference(NamedTuple):
    """An expression, how PyTorch spells it ("": the same), and what it gives here and there."""

    expression: str
    spelled: str
    ours: str
    theirs: str
    why: str


def table() -> list[Difference]:
    """The rows of the page."""
    return [Difference(*cells) for cells in ROW.findall(PAGE.read_text(encoding="utf-8"))]


def rounded(value: Any) -> Any:
    """Floats to four digits, in nested lists."""
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def outcome(expression: str, make: Callable[[Any], Any], library: Any) -> str:
    """The value as the table writes it: a list or number, a dtype's name, or the name of an error."""
    try:
        value = eval(expression, {"T": make, "t": library})
        if getattr(value, "requires_grad", False):
            value = value.detach()
        if hasattr(value, "tolist"):
            return repr(rounded(value.tolist()))
    except Exception as error:
        return type(error).__name__
    return getattr(value, "name", str(value)).removeprefix("torch.")

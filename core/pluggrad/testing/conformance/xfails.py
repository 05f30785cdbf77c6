"""Expected failures: a file of lines `test-id  reason`. Strict: each must fail, and each must exist."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from pluggrad.errors import FileFormatError


def read_xfails(path: Path) -> dict[str, str]:
    """Reasons by test id. Blank lines and lines that begin with # are left out.

    FileFormatError for a line without a reason, and for a test that is named twice.
    """
    reasons: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        id, _, reason = text.partition(" ")
        if not reason.strip() or id in reasons:
            got = "a line without a reason" if not reason.strip() else "a test that is named above"
            raise FileFormatError(op=f"{path}, line {number}", expected="test-id  reason",
                                  got=f"{got}: {text!r}")
        reasons[id] = reason.strip()
    return reasons


def stale(reasons: Mapping[str, str], known: Collection[str], not_applicable: Mapping[str, str]) -> list[str]:
    """What is wrong with each id that can never fail on this device."""
    gone = [f"{id}: there is no such test" for id in reasons if id not in known]
    idle = [f"{id}: not applicable to this device: {not_applicable[id]}" for id in reasons
            if id in not_applicable]
    return gone + idle

"""A line that shows how far a run is, on a terminal only."""
from __future__ import annotations

import shutil
import sys
from typing import Final, TextIO

_BAR: Final = 24


class Progress:
    """`with Progress(total) as progress:`; `advance` after each test, `log` for a line that stays."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total, self._done, self._failed = total, 0, 0
        self._stream = sys.stdout if stream is None else stream
        self._shown = self._stream.isatty()

    def advance(self, id: str, failed: bool) -> None:
        """One test more has ended."""
        self._done, self._failed = self._done + 1, self._failed + failed
        if not self._shown:
            return
        full = _BAR * self._done // max(self._total, 1)
        bad = f", {self._failed} failed" if self._failed else ""
        text = f"[{'#' * full}{'.' * (_BAR - full)}] {self._done}/{self._total}{bad}  {id}"
        self._write("\r\x1b[K" + text[:shutil.get_terminal_size().columns - 1])

    def log(self, line: str) -> None:
        """Print a line above the bar."""
        self._write(f"\r\x1b[K{line}\n" if self._shown else f"{line}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            self._write("\r\x1b[K")

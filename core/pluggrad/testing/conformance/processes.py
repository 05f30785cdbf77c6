"""The runner's side of a worker process: starting it, asking it, and saying how it died."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_GRACE_S: Final = 2.0  # a worker ends itself when its time is up, with a traceback; then it is ended
_KEPT_OUTPUT: Final = 4000  # characters, from the end
_WORKER: Final = f"{__name__.rpartition('.')[0]}.worker"


class Death(Exception):
    """A worker ended, or was ended, without an answer."""


class Worker:
    """One worker process in a session of its own, so that Ctrl-C reaches the runner alone."""

    def __init__(self, device: str, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self._started_at = self._size()
        command = [sys.executable, "-X", "faulthandler", "-m", _WORKER, device]
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True,
                encoding="utf-8", env=dict(environment), start_new_session=True)

    def ask(self, request: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """The reply to a request; Death says why there is none within `limit_s` seconds."""
        self._started_at = self._size()
        started, backstop = time.monotonic(), threading.Timer(limit_s + _GRACE_S, self.kill)
        backstop.start()
        try:
            line = self._exchange(json.dumps(request | {"limit_s": limit_s}))
        finally:
            backstop.cancel()
        if not line:
            status = self._process.wait()
            self.kill()  # what it started may live on
            raise Death(_death(status, time.monotonic() - started, limit_s))
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _exchange(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it died: there will be nothing to read
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        return self._process.stdout.readline()

    def output(self) -> str:
        """What the process printed since it was last asked something, its end only."""
        with open(self._log, "rb") as file:
            file.seek(self._started_at)
            return file.read().decode(errors="replace").strip()[-_KEPT_OUTPUT:]

    def _size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def stop(self, limit_s: float = 10.0) -> None:
        """Let the process end by itself, as a program that is done does; end it if it does not."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(limit_s)
        self.kill()

    def kill(self) -> None:
        """End the process and all that it started, now."""
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)


def _death(status: int, seconds: float, limit_s: float) -> str:
    if seconds >= limit_s:
        return f"no answer within {limit_s:g} s"
    if status < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    return f"the process ended with status {status} and gave no answer"

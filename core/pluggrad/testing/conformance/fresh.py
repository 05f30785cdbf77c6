"""Calling a function in a new interpreter: what a process sees that has not opened a device.

Imports next to nothing, so that a function can find out what an import loads.
"""
from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")
_LIMIT_S: Final = 25.0


class FreshProcessFailed(Exception):
    """The function raised there, or the process did not end as it should; the text says which."""


def in_fresh_process(function: Callable[..., T], *arguments: Any, hash_seed: int = 0) -> T:
    """`function(*arguments)` in a new process; function, arguments and result are pickled.

    The process has to end with status 0 after it. hash_seed: of Python's hashes of text.
    """
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-X", "faulthandler", "-m", __name__]
    try:
        done = subprocess.run(command, input=pickle.dumps((function, arguments)), capture_output=True,
                              timeout=_LIMIT_S, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise FreshProcessFailed(f"{function.__name__}: no answer within {_LIMIT_S:g} s") from error
    sys.stderr.write(done.stderr.decode(errors="replace"))
    if not done.stdout:
        raise FreshProcessFailed(f"{function.__name__}: the process ended with status {done.returncode}")
    failure, result = pickle.loads(done.stdout)
    if failure:
        raise FreshProcessFailed(f"{function.__name__}: {failure}")
    if done.returncode:
        raise FreshProcessFailed(f"{function.__name__}: right, but then its process ended with status "
                                 f"{done.returncode}")
    value: T = result
    return value


def main() -> int:
    """Serve one call: read it from standard input, write its result to what was standard output."""
    with os.fdopen(os.dup(1), "wb") as reply:
        os.dup2(2, 1)
        try:
            function, arguments = pickle.loads(sys.stdin.buffer.read())
            answer: tuple[str, Any] = ("", function(*arguments))
        except BaseException as error:
            traceback.print_exc()
            answer = (f"{type(error).__name__}: {error}", None)
        reply.write(pickle.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

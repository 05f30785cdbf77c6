"""Kernels of the conformance suite, collected once for each GPU and test run.

The steps run in processes of their own, so that a kernel that crashes is a failure that names its test. What
they leave lies in a folder that all workers of the run share; who needs what another is making waits for it.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.conftest import CACHE_VARIABLE, SHARED_CACHE_VARIABLE

PARTS: Final = ("launches", "kernels-0", "kernels-1", "kernels-2", "programs")  # of the suite, each by itself
ROOT: Final = Path(__file__).parents[2]
_LIMIT_S: Final = 550.0
_SHOWN: Final = 4000  # characters of a failed process's last words


def collected(architecture: str, part: str) -> Path:
    """The folder of one part of the suite, with `sources.json` and `collect.json`."""
    return _step("collect", architecture, part)


def sources(architecture: str, *parts: str) -> list[str]:
    """The source of every kernel that these parts of the suite generate, once each; of all parts, if none is
    named."""
    found: dict[str, None] = {}
    for part in parts or PARTS:
        text = (collected(architecture, part) / "sources.json").read_text(encoding="utf-8")
        found.update(dict.fromkeys(json.loads(text)))
    return list(found)


def results(architecture: str, part: str) -> dict[str, Any]:
    """What a part of the suite says when its kernels run as C++: see `suite`."""
    collected(architecture, part)
    return report(_step("run", architecture, part), "run")


def report(folder: Path, step: str) -> dict[str, Any]:
    """How a step ended."""
    found: dict[str, Any] = json.loads((folder / f"{step}.json").read_text(encoding="utf-8"))
    return found


def _step(step: str, architecture: str, part: str) -> Path:
    shared = Path(os.environ[SHARED_CACHE_VARIABLE]) / "shims" / architecture
    folder = shared / part
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{step}.lock"):
        if not (folder / f"{step}.json").exists():
            _run(step, architecture, part, folder, {CACHE_VARIABLE: str(folder / "cache")})
    return folder


def _run(step: str, architecture: str, part: str, folder: Path, variables: dict[str, str]) -> None:
    environment = {**os.environ, **variables}
    environment.pop("PLUGGRAD_VERIFY", None)  # as users run it
    command = [sys.executable, "-m", "tests.shims.suite", step, architecture, part, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True,
                          timeout=_LIMIT_S, check=False)
    if done.returncode:
        said = done.stderr[-_SHOWN:]
        raise AssertionError(f"{step} of {part} for {architecture}: status {done.returncode}\n{said}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    import fcntl  # not everywhere; the tests that come here are for Linux

    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

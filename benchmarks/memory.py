"""How much memory a program's steps need: the peak of a process above what its library's import left.

    python -m benchmarks.memory LIBRARY PROGRAM     prints the MiB of this process

Where the system lets a process begin its peak anew (Linux), that is done after the import. Elsewhere it is
the peak of all above that after the import. Caches on disk are empty: what the compiler needs counts.
"""
from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from benchmarks.criteria import OURS
from benchmarks.programs import make
from benchmarks.startup import run
from benchmarks.turns import Absent

PEER: Final = "torch"
# programs whose peak may not exceed the peer's
COMPARED: Final = ("lenet", "resnet18_8", "resnet18_step", "gpt_block", "chain")
STEPS: Final = 3
_STATUS: Final = Path("/proc/self/status")


def peaks(programs: Sequence[str], libraries: Sequence[str]) -> Mapping[str, Mapping[str, float | str]]:
    """MiB by program and library, each in a process of its own; a text says why there are none."""
    return {program: {library: _measured(library, program) for library in libraries} for program in programs}


def _measured(library: str, program: str) -> float | str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return float(run(["-m", "benchmarks.memory", library, program], PLUGGRAD_CACHE_DIR=folder,
                             PLUGGRAD_CACHE="1").split()[-1])
        except Absent as reason:
            return str(reason)


# ---- in the process ------------------------------------------------------------------------------
def _status(name: str) -> float:
    """MiB of a line of this process's status."""
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def resident() -> float:
    """MiB of this process in memory now; where the system does not tell, at most so far."""
    return _status("VmRSS") if _STATUS.exists() else _peak()


def _peak() -> float:
    """MiB at most resident so far."""
    if _STATUS.exists():
        return _status("VmHWM")
    import resource  # not on Windows

    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _imported(library: str) -> float:
    """MiB after the library's import and a first result of it, from where a new peak begins."""
    if library == OURS:
        from pluggrad import Tensor

        (Tensor([1.0]) + 1).numpy()  # opens the device
    else:
        import_module("torch").ones(1) + 1
    import_module(f"benchmarks.programs.{library}")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def main(library: str, program: str) -> None:
    before = _imported(library)
    step = make(library, program)
    for _ in range(STEPS):
        step()
    print(_peak() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])

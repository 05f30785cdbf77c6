"""The workloads' forms in each library, written as its own documentation says: a module a library.

A module is imported in that library's process only. `library()` in it gives what the process needs.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Final, TypeAlias

from benchmarks.workloads import Workload

Call: TypeAlias = Callable[[], object]

# the peers by the names of the table, and their modules here
PEERS: Final = {"numpy": "numpy", "torch": "torch", "torch.compile": "torch_compile", "jax": "jax",
                "tinygrad": "tinygrad"}

ON_DEVICES: Final = ("torch", "torch.compile")  # those that a run with --device puts on the device


def _uncounted() -> int:
    return 0


def _unmeasured() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Library:
    """A library that started.

    make: the timed call of a workload, which returns its result; None if the library does not have that form.
    kernels: kernels launched so far, where the library counts them. needs: what it needs beside itself.
    limits: what it measures of the device that it runs on, GFLOP/s of float32 and GB/s; None: nothing.
    """

    version: str
    make: Callable[[Workload], Call | None]
    kernels: Callable[[], int] = _uncounted
    needs: str = ""
    limits: Callable[[], tuple[float, float] | None] = _unmeasured


def load(name: str) -> Library:
    """Start a library; whatever this raises is the reason why it is absent."""
    library: Library = import_module(f"benchmarks.forms.{PEERS.get(name, name)}").library()
    return library

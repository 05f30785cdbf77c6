"""The conformance suite in parts that are collected and run apart. Imports nothing of pluggrad."""
from __future__ import annotations

from typing import Final

# levels, then of tests that share kernels every third set of them
PARTS: Final = ("kernels-0", "kernels-1", "kernels-2", "programs")

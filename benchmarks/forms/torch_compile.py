"""The forms in PyTorch under `torch.compile`."""
from __future__ import annotations

from benchmarks.forms import Library, torch


def library() -> Library:
    """torch.compile with its defaults."""
    return torch.library(compiled=True)

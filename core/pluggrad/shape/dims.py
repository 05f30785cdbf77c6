"""What a shape is made of: the one place where symbolic dims will join the integers."""
from __future__ import annotations

from typing import TypeAlias

Dim: TypeAlias = int
Shape: TypeAlias = tuple[Dim, ...]

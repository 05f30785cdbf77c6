"""Program -> source text in languages of the C family: C itself, and what plugins derive from it."""
from __future__ import annotations

from pluggrad.render.c_vectors import CVectorRenderer
from pluggrad.render.renderer import CLikeRenderer
from pluggrad.render.source import Source, Value, merged

__all__ = ["CLikeRenderer", "CVectorRenderer", "Source", "Value", "merged"]

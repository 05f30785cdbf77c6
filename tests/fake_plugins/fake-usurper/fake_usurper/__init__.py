"""A plugin that claims a reserved name; it must never be imported."""
from __future__ import annotations

raise AssertionError("imported")

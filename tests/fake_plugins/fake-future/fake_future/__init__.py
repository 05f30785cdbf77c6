"""A plugin for another major of the plugin API; it must never be imported."""
from __future__ import annotations

raise AssertionError("imported")

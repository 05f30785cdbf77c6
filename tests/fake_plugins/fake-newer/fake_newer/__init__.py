"""A plugin that imports what a later core will have."""
from __future__ import annotations

from pluggrad.plugin_api import Backend, ReactorCore  # noqa: F401

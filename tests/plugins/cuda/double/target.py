"""What code is made for on the double: kernels as they are before they are scheduled, for the interpreter."""

from __future__ import annotations

from dataclasses import replace

from pluggrad.target import Target

FEATURES = frozenset({"graph", "async", "events", "peer"})


def target(of: Target) -> Target:
    """A target like `of`, with the features of the plugin's devices."""
    return replace(of, capabilities=replace(of.capabilities, features=FEATURES, alignment=256,
                                            unified_memory=False))

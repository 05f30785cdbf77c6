"""Kernels -> Plan: order, what may run side by side, memory over all temporaries, what may alias.

The package holds the values, which the runtime needs for plans from disk; `plan.build` makes them."""
from pluggrad.plan.plan import BufferRef, Plan, PlannedCommand, PlannedCopy, PlannedLaunch, PlannedOutput

__all__ = ["BufferRef", "Plan", "PlannedCommand", "PlannedCopy", "PlannedLaunch", "PlannedOutput"]

"""Kernels -> Plan: order, what may run side by side, memory over all temporaries, what may alias."""
from pluggrad.plan.build import build_plan
from pluggrad.plan.plan import BufferRef, Plan, PlannedCommand, PlannedCopy, PlannedLaunch, PlannedOutput

__all__ = [
    "BufferRef", "Plan", "PlannedCommand", "PlannedCopy", "PlannedLaunch", "PlannedOutput", "build_plan"]

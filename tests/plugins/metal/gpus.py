"""Descriptions of Apple GPUs, as their drivers give them: no Mac is needed to make code for them."""

from __future__ import annotations

from pluggrad_metal.target import M1, M3_MAX, Gpu

GB = 1 << 30

PARAVIRTUAL = Gpu("Apple Paravirtual device", 5, (3, 1), True, 5 * GB, 2 * GB)  # of hosted runners
DISCRETE = Gpu("AMD Radeon Pro 5500M", 0, (3, 1), False, 4 * GB, 3 * GB)
EVERY = {gpu.name: gpu for gpu in (M1, M3_MAX, PARAVIRTUAL, DISCRETE)}

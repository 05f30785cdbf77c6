"""Descriptions of Apple GPUs, as their drivers give them: no Mac is needed to make code for them."""

from __future__ import annotations

from pluggrad_metal.target import Gpu

GB = 1 << 30

M1 = Gpu("Apple M1", 7, (3, 0), True, 11 * GB, 8 * GB)
M3_MAX = Gpu("Apple M3 Max", 9, (3, 1), True, 96 * GB, 64 * GB)
PARAVIRTUAL = Gpu("Apple Paravirtual device", 5, (3, 1), True, 5 * GB, 2 * GB)  # of hosted runners
DISCRETE = Gpu("AMD Radeon Pro 5500M", 0, (3, 1), False, 4 * GB, 3 * GB)
EVERY = {gpu.name: gpu for gpu in (M1, M3_MAX, PARAVIRTUAL, DISCRETE)}

"""Level 1: kernels: every op on every dtype."""

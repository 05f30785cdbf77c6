"""Stage 3, Region -> Kernel: loops over index expressions, their cost, and an interpreter as their meaning."""

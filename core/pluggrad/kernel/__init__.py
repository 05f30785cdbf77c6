"""Stage 3, Region -> Kernel: loops over index expressions, their cost, and an interpreter that defines them."""

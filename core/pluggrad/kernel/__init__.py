"""Stage 3, Region -> Kernel: loops over index expressions, their cost, and the interpreter that defines them."""

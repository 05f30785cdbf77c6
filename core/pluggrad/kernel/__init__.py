"""Stage 3, Region -> Kernel: loops over index expressions, what they cost, and the interpreter of them."""

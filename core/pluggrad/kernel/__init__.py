"""Stage 3, Region -> Kernel: a loop nest over index expressions, its cost, and the interpreter that says what it means."""

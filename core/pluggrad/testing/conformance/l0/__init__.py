"""Level 0: the contract: import, probe, target, toolchain, memory, loading."""

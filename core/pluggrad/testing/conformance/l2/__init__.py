"""Level 2: programs."""

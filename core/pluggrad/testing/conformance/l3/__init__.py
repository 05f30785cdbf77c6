"""Level 3: training."""

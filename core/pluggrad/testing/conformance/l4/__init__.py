"""Level 4: optional features."""

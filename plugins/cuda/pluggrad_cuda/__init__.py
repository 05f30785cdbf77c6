"""The `cuda` device of pluggrad."""

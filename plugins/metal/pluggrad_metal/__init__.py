"""The `metal` device of pluggrad."""

"""The `opencl` device of pluggrad."""

"""The datasets of `pluggrad.data`, under the name where tinygrad users look for them."""
from pluggrad.data import digits, mnist

__all__ = ["digits", "mnist"]

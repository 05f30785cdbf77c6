"""Datasets: `digits` is bundled, `mnist` is read from a folder or downloaded."""
from pluggrad.data.optdigits import digits
from pluggrad.data.mnist_database import mnist

__all__ = ["digits", "mnist"]

"""Datasets: `digits` is bundled, `mnist` is read from a folder or downloaded."""
from pluggrad.data.mnist_database import mnist
from pluggrad.data.optdigits import digits

__all__ = ["digits", "mnist"]

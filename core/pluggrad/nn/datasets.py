"""The datasets of `pluggrad.data`, under the name where tinygrad users look for them."""
from pluggrad.data import cifar10, digits, fashion_mnist, mnist

__all__ = ["cifar10", "digits", "fashion_mnist", "mnist"]

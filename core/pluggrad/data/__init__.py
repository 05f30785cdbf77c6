"""Datasets, and batches of them.

`digits` is bundled; `mnist`, `fashion_mnist` and `cifar10` are read from a folder or downloaded;
`ImageFolder` reads folders of images. A `DataLoader` makes batches of any of them.
"""
from pluggrad.data.augment import random_crop, random_flip
from pluggrad.data.cifar import cifar10
from pluggrad.data.dataset import Dataset, Subset, TensorDataset, random_split
from pluggrad.data.image_folder import ImageFolder, read_image
from pluggrad.data.loader import DataLoader
from pluggrad.data.mnist_database import fashion_mnist, mnist
from pluggrad.data.optdigits import digits
from pluggrad.data.split import Split

__all__ = [
    "digits", "mnist", "fashion_mnist", "cifar10", "Split", "ImageFolder", "read_image",
    "DataLoader", "Dataset", "TensorDataset", "Subset", "random_split",
    "random_crop", "random_flip",
]

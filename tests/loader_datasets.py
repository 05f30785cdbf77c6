"""Datasets that the tests of the loader send to processes; apart, so that these import little."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import numpy as np

from pluggrad import Tensor


class Squares:
    """Item i is (i, [i * i, i * i])."""

    def __init__(self, count: int = 10) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        return index, np.full(2, index * index, np.float32)


class Rows(Squares):
    """A dataset that holds a tensor, and gives tensors."""

    def __init__(self, values: Tensor) -> None:
        super().__init__(len(values))
        self.values = values

    def __getitem__(self, index: int):
        return self.values[index]


class Noise(Squares):
    def __getitem__(self, index: int):
        return np.random.rand(), random.random(), Tensor.rand(1).item()  # noqa: NPY002 - what many use


class Picky(Squares):
    def __getitem__(self, index: int):
        if index == 5:
            raise LookupError(f"item {index} is bad")
        return index


class Unpicklable(Exception):
    def __init__(self, one, two) -> None:
        super().__init__(f"{one} {two}")


class Strange(Squares):
    def __getitem__(self, index: int):
        raise Unpicklable(1, 2)


class Dying(Squares):
    def __getitem__(self, index: int):
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class Refusing(Squares):
    def __setstate__(self, state) -> None:
        raise AttributeError("not here")


class Slow(Squares):
    def __getitem__(self, index: int):
        time.sleep(60 if index else 0)
        return index


class WhoLoads(Squares):
    def __getitem__(self, index: int):
        return os.getpid(), threading.get_ident()

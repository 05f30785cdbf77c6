"""What a row of the table of Tensor methods says: a call, its meaning in NumPy, dtypes, gradient, error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pluggrad import Tensor

Make = Callable[[np.random.Generator], np.ndarray]


def uniform(*shape: int, low: float = -1.0, high: float = 1.0) -> Make:
    """Floats from low to high."""
    return lambda rng: rng.uniform(low, high, shape)


def integers(*shape: int, low: int = 0, high: int = 9) -> Make:
    """int32 from low to high - 1, whatever the dtype of the row's floats."""
    return lambda rng: rng.integers(low, high, shape).astype(np.int32)


def chances(*shape: int) -> Make:
    """Booleans."""
    return lambda rng: rng.random(shape) < 0.5


def probabilities(*shape: int) -> Make:
    """Positive rows that sum to 1."""

    def make(rng: np.random.Generator) -> np.ndarray:
        x = rng.uniform(0.1, 1, shape)
        return x / x.sum(-1, keepdims=True)

    return make


def exactly(value: Any) -> Make:
    """These values."""
    return lambda rng: np.array(value)


def unexpected(name: str) -> Callable[..., Any]:
    """A call with an argument that the method does not take."""
    return lambda x, *others: getattr(x, name)(*others, no_such_argument=1)


@dataclass(frozen=True)
class Row:
    """One method.

    reference: the same of NumPy arrays. inputs: what makes them; floats come as float64 and are cast to the
    dtype of a test. call: of tensors (None: the method itself). result: the dtype that floats give ("same":
    their own). ints: the dtype that int32 gives ("same", a name), "refused" if it is an error, "" where the
    row takes no floats in place of which integers could stand. gradient: checked against finite differences,
    to second order; else there must be none. error: a call that is refused, of the type `raises`, with text
    that holds `says` (the method's name where empty).
    """

    name: str
    reference: Callable[..., Any]
    inputs: tuple[Make, ...]
    call: Callable[..., Any] | None = None
    result: str = "same"
    ints: str = ""
    gradient: bool = True
    order: int = 2
    error: Callable[..., Any] | None = None
    raises: type[BaseException] = Exception
    says: str = ""

    def arrays(self) -> list[np.ndarray]:
        """The inputs, equal from run to run."""
        rng = np.random.default_rng(7)
        return [make(rng) for make in self.inputs]

    def of(self, *tensors: Any) -> Any:
        """The row's call."""
        return self.call(*tensors) if self.call is not None else getattr(tensors[0], self.name)(*tensors[1:])

    def refused(self, *tensors: Any) -> Any:
        """The call that has to fail."""
        return (self.error or unexpected(self.name))(*tensors)


def flat(outputs: Any) -> list[Any]:
    """The tensors or arrays of one result, several or a named tuple of them."""
    if isinstance(outputs, (Tensor, np.ndarray, np.generic, float, int)):
        return [outputs]
    return [part for output in outputs for part in flat(output)]

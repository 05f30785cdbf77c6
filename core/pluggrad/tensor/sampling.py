"""Random orders and choices, from the same stream of draws as all random tensors."""
from __future__ import annotations

from typing import Any, Self

from pluggrad import dtypes, runtime
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build
from pluggrad.graph.sorting import sorting_order
from pluggrad.tensor.base import place
from pluggrad.tensor.distributions import uniform_node
from pluggrad.tensor.random import Random
from pluggrad.tensor.random_state import random_bits
from pluggrad.tensor.tracing import active


class Sampling(Random):
    """Permutations, and indices drawn by their weights."""

    __slots__ = ()

    @classmethod
    def randperm(cls, n: int, device: Any = None, dtype: Any = None) -> Self:
        """0 .. n-1 in a random order, int32 unless `dtype` says otherwise."""
        found = dtypes.int32 if dtype is None else dtypes.to_dtype(dtype)
        if n < 0:
            raise ValueRangeError(op="randperm", expected="a length of at least 0", got=str(n))
        if found.kind == "b" or n - 1 > found.max:
            raise DTypeError(op="randperm", expected=f"a number dtype that holds {n - 1}", got=found.name)
        where = place(device)
        if n < 2:
            return cls._made(build.const(0, found, where, (n,)))
        return cls._made(build.cast(sorting_order(random_bits((n,), where)), found))

    def multinomial(self, num_samples: int = 1, replacement: bool = False) -> Self:
        """Indices drawn with these weights, int32: a vector of them, or rows for as many rows of draws.

        Weights are not negative and need not add up to 1; an index of weight 0 is never drawn. replacement:
        whether one may be drawn again; without it a row gives at most as many as it has weights above 0.
        Reads the weights to refuse what is none with a ValueRangeError, but not inside captured functions or
        transformations.
        """
        if self.ndim not in (1, 2) or 0 in self.shape:
            raise ShapeError(op="multinomial", expected="a vector or a matrix of weights",
                             got=str(self.shape))
        if self.dtype.kind == "b":
            raise DTypeError(op="multinomial", expected="a number dtype", got="bool", hint="cast first")
        if num_samples < 1 or not (replacement or num_samples <= self.shape[-1]):
            raise ValueRangeError(op="multinomial", got=str(num_samples),
                                  expected=f"num_samples from 1 to {self.shape[-1]}, or replacement=True")
        weights = self._detached()._as_float().cast(dtypes.float32)
        if self.dtype is dtypes.float64:
            weights = self._detached()
        if not (runtime.capturing() or active.traces):
            _check_weights(weights, 1 if replacement else num_samples)
        drawn = weights._drawn_again(num_samples) if replacement else weights._drawn_once(num_samples)
        return drawn.cast(dtypes.int32)

    def _drawn_again(self, count: int) -> Self:
        """Where uniform numbers fall into the running sums."""
        sums = self.cumsum(-1)
        total = sums[..., -1:]
        shape = (*self.shape[:-1], count)
        uniform = self._new(uniform_node(shape, self.dtype, self.node.device))
        # a product may round up to the total, which lies behind the last weight above 0
        return sums.searchsorted(uniform * total, right=True).minimum(sums.searchsorted(total))

    def _drawn_once(self, count: int) -> Self:
        """The first of waiting times, each exponential with its weight as the rate."""
        uniform = self._new(uniform_node(self.shape, dtypes.float32, self.node.device))
        # 1 - u lies in (0, 1]; u in [0, 1) may be 0
        waiting = (1 - uniform).log().neg() / self
        return (self > 0).where(waiting, float("inf")).topk(count, -1, largest=False)[1]


def _check_weights(weights: Any, count: int) -> None:
    """All weights are numbers of at least 0, and in each row `count` above it."""
    legal = ((weights >= 0) & weights.isfinite()).all()
    fewest = (weights > 0).sum(-1).min()
    known = legal.cast(dtypes.int64).stack(fewest.cast(dtypes.int64)).tolist()
    if not known[0]:
        raise ValueRangeError(op="multinomial", expected="weights of at least 0",
                              got="a negative one, an infinity or NaN")
    if known[1] < count:
        raise ValueRangeError(op="multinomial", expected=f"at least {count} weights above 0 in each row",
                              got=f"{known[1]} in some row")

"""Convolutions and transposed ones as sums over the places of the kernel, in NumPy."""

from __future__ import annotations

import itertools

import numpy as np


def places(kernel, strides, dilations, positions):
    """Each element of a kernel, and the slices where windows of `positions` meet it."""
    for k in itertools.product(*map(range, kernel)):
        yield k, tuple(
            slice(at * d, at * d + (n - 1) * s + 1, s)
            for at, s, d, n in zip(k, strides, dilations, positions)
        )


def sizes_of(shape, kernel, strides, dilations):
    return [
        (n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(shape, kernel, strides, dilations, strict=True)
    ]


def convolved(x, w, groups=1, strides=(1, 1), dilations=(1, 1), pads=((0, 0), (0, 0))):
    """(N, C, *S) with weights (O, C / groups, *K), in float64."""
    x = np.pad(x, ((0, 0), (0, 0), *pads)).astype(np.float64)
    positions = sizes_of(x.shape[2:], w.shape[2:], strides, dilations)
    result = np.zeros((len(x), len(w), *positions))
    inner, outer = w.shape[1], len(w) // groups
    for k, where in places(w.shape[2:], strides, dilations, positions):
        for group in range(groups):
            read = x[(slice(None), slice(group * inner, (group + 1) * inner), *where)]
            rows = slice(group * outer, (group + 1) * outer)
            result[:, rows] += np.einsum("ni...,oi->no...", read, w[(rows, slice(None), *k)])
    return result


def spread(x, w, groups, strides, dilations, pads, extra):
    """The transposed convolution: every input adds a scaled kernel."""
    inner, outer = w.shape[0] // groups, w.shape[1]
    sizes = [
        (n - 1) * s + (k - 1) * d + 1 + more
        for n, k, s, d, more in zip(x.shape[2:], w.shape[2:], strides, dilations, extra, strict=True)
    ]
    whole = np.zeros((len(x), outer * groups, *sizes))
    for k, where in places(w.shape[2:], strides, dilations, x.shape[2:]):
        for group in range(groups):
            rows, channels = (slice(group * n, (group + 1) * n) for n in (outer, inner))
            value = np.einsum("ni...,io->no...", x[:, channels], w[(channels, slice(None), *k)])
            whole[(slice(None), rows, *where)] += value
    kept = [slice(before, size - after) for size, (before, after) in zip(sizes, pads, strict=True)]
    return whole[(slice(None), slice(None), *kept)]

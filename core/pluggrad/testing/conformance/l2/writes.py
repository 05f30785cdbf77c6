"""Writes in place, values that change between runs, many buffers, launches of every size, random numbers."""
from __future__ import annotations

import math
from typing import Final

import numpy as np

from pluggrad import dtypes, jit
from pluggrad.kernel.tolerance import Kind
from pluggrad.tensor import Tensor
from pluggrad.testing.conformance import reference, samples
from pluggrad.testing.conformance.mismatch import Mismatch, expect
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

# around the boundaries of vectors, blocks and tasks, and beyond what one core gets
SIZES: Final = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 127, 129, 255, 257, 511, 513, 1023, 1025,
                4095, 4097, 65_535, 65_537, 1_000_003, 4_194_305)


@conformance("L2", cases=product(size=SIZES), requires=requires(dtype="int32"),
             suggests="the tail of a launch is lost, or written over")
def launch_sizes(subject: Subject, size: int) -> None:
    """Every element of a launch is computed once, up to the last."""
    values = np.arange(size, dtype=np.int32)
    subject.expect(subject.tensor(values) * 3 + 7, values * np.int32(3) + np.int32(7), "int32",
                   op=f"{size} elements")


@conformance("L2", requires=requires(dtype="float32"),
             suggests="a launch ignores a run-time value, or keeps that of the launch before")
def changing_values(subject: Subject) -> None:
    """Numbers that change from run to run, in one kernel that is compiled once."""
    values = np.arange(1, 40, dtype=np.float32)
    x = subject.tensor(values)
    for number in (0.37, -1.25, 3e7, 0.37):
        subject.expect(x * number + number, values.astype(np.float64) * number + number, "float32", "rounded",
                       op=f"x * {number} + {number}")


@conformance("L2", requires=requires(dtype="float32"),
             suggests="a replayed list of commands keeps a buffer or a value of the run before")
def replays(subject: Subject) -> None:
    """A captured function with new tensors each time, and a state that it changes."""
    total = subject.tensor(np.zeros(33, np.float32))

    @jit
    def step(x: Tensor) -> Tensor:
        total.assign(total + x)
        return (x * 2 + total).realize()

    want = np.zeros(33)
    for run in range(5):
        values = samples.seeded("replays", str(run)).normal(0, 1, 33).astype(np.float32)
        want += values
        subject.expect(step(subject.tensor(values)), values * 2.0 + want, "float32", "sum",
                       op=f"call {run + 1}")


@conformance("L2", requires=requires(dtype=("float32", "int32")),
             suggests="a write in place goes to the wrong elements, or comes before they are read")
def in_place(subject: Subject) -> None:
    """Slices written, reversed onto themselves, shifted, and combined."""
    values = np.arange(60, dtype=np.float32).reshape(6, 10)
    x, want = subject.tensor(values).realize(), values.copy()
    for key, number in (((slice(1, 5, 2), slice(None)), 3.0), ((slice(None), slice(2, 4)), -1.0)):
        x[key] = number
        want[key] = number
    subject.expect(x, want, "float32", op="setitem")
    x.assign(x.flip(0) + 1)
    want = want[::-1] + 1
    subject.expect(x, want, "float32", op="a tensor reversed onto itself")
    x[1:, :] = x[:-1, :].contiguous()
    want[1:, :] = want[:-1, :].copy()
    subject.expect(x, want, "float32", op="rows moved down by one")
    x += 2
    subject.expect(x, want + 2, "float32", op="added in place")


@conformance("L2", cases=product(count=(2, 9, 31, 70)), requires=requires(dtype="int32"),
             suggests="a kernel with many buffers gets the wrong ones: Capabilities.max_buffers is a limit")
def many_buffers(subject: Subject, count: int) -> None:
    """A sum of many tensors, and as many results of one tensor."""
    values = [np.arange(50, dtype=np.int32) * (k + 1) for k in range(count)]
    tensors = [subject.tensor(each) for each in values]
    subject.expect(sum(tensors[1:], tensors[0]), sum(values), "int32", op=f"a sum of {count} tensors")
    results = [tensors[0] * (k + 1) + k for k in range(count)]
    Tensor.realize(*results)
    for k, result in enumerate(results):
        subject.expect(result, values[0] * (k + 1) + k, "int32", op=f"result {k + 1} of {count}")


@conformance("L2", requires=requires(dtype=("uint32", "float32")), suggests="the random stream differs")
def random_stream(subject: Subject) -> None:
    """Uniforms are those of the reference stream, bit by bit; normal numbers follow from them."""
    Tensor.manual_seed(42)
    have = Tensor.rand(1009, device=subject.name).numpy()
    Tensor.manual_seed(42)
    want = Tensor.rand(1009, device="ref").numpy()
    subject.expect(have, want, "float32", op="rand")
    Tensor.manual_seed(7)
    normal = Tensor.randn(20_000, device=subject.name).numpy().astype(np.float64)
    expect(abs(normal.mean()) < 0.05 and abs(normal.std() - 1) < 0.05, "randn is not standard normal",
           expected="mean 0, deviation 1", got=f"mean {normal.mean():.3f}, deviation {normal.std():.3f}")


@conformance("L2", cases=product(what=("matmul", "softmax", "scatter", "convolution")),
             requires=requires(dtype=("float32", "int32")),
             suggests="results are not deterministic: an order depends on which task comes first")
def same_bits(subject: Subject, what: str) -> None:
    """The same program gives the same bits, three times."""
    rng = samples.seeded("same-bits", what)
    a, b = [rng.normal(0, 1, (130, 140)).astype(np.float32) for _ in range(2)]
    index = rng.integers(0, 9, (130, 140)).astype(np.int32)
    x, y, i = subject.tensor(a), subject.tensor(b), subject.tensor(index)
    programs = {
        "matmul": lambda: x @ y.T, "softmax": lambda: (x * 3).softmax(1),
        "scatter": lambda: y.scatter_reduce(1, i, x, "sum"),
        "convolution": lambda: x.reshape(1, 13, 35, 40).conv2d(y[:26, :117].reshape(26, 13, 3, 3))}
    first = programs[what]().numpy()
    for run in (2, 3):
        again = programs[what]().numpy()
        if not np.array_equal(first.view(np.uint32), again.view(np.uint32)):
            places = int(np.sum(first.view(np.uint32) != again.view(np.uint32)))
            raise Mismatch(f"run {run} of {what} differs from run 1 in {places} of {first.size} elements: "
                           "not deterministic", op=what, dtype="float32")


@conformance("L2", requires=requires(dtype=("float32", "int32", "bool")),
             suggests="NaN, infinities or the sign of zero get lost")
def special_values(subject: Subject) -> None:
    """NaN, infinities, -0.0 and overflow go through programs as they go through NumPy."""
    values = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e38, -1e38, 1.0], np.float32)
    x = subject.tensor(values)
    with np.errstate(all="ignore"):
        for name, have, want in (
                ("x * 0", x * 0, values * 0), ("x - x", x - x, values - values),
                ("x * 10", x * 10, values * np.float32(10)), ("1 / x", 1 / x, 1 / values),
                ("relu", x.relu(), np.maximum(values, 0)), ("abs", x.abs(), np.abs(values)),
                ("isnan", x.isnan(), np.isnan(values)), ("x == x", x == x, values == values),
                ("where", (x > 0).where(x, -x), np.where(values > 0, values, -values)),
                ("to int32", x.cast("int32"), reference.cast(values, dtypes.float32, dtypes.int32))):
            kind: Kind = "rounded" if have.dtype.is_float else "exact"
            subject.expect(have, want, have.dtype, kind, op=name)
        signs = 1 / (x[:2] * 1)
        subject.expect(signs, np.array([math.inf, -math.inf]), "float32", op="the sign of zero")

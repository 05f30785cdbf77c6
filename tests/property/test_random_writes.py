"""Random programs of views, writes, sums, realizations and drops do to tensors what they do to arrays."""
from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluggrad import Tensor

Pair = tuple[Tensor, np.ndarray]


class Program:
    """Tensors and their arrays, side by side; a view of one is a view of the other."""

    def __init__(self, data: st.DataObject, device: str) -> None:
        self.data, self.device = data, device
        self.pairs: list[Pair] = []

    def number(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    def any(self) -> Pair:
        return self.pairs[self.number(0, len(self.pairs) - 1)]

    def new(self) -> None:
        shape = tuple(self.number(1, 5) for _ in range(self.number(1, 2)))
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 10 * self.number(0, 9)
        self.pairs.append((Tensor(array, device=self.device), array.copy()))

    def index(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        parts = []
        for size in shape:
            start, step = self.number(0, size - 1), self.number(1, 2)
            parts.append(slice(start, self.number(start + 1, size), step))
        return tuple(parts)

    def view(self) -> None:
        tensor, array = self.any()
        way = self.number(0, 2)
        if way == 0:
            index = self.index(array.shape)
            self.pairs.append((tensor[index], array[index]))
        elif way == 1:
            self.pairs.append((tensor.flip(0), np.flip(array, 0)))
        else:
            order = tuple(reversed(range(array.ndim)))
            self.pairs.append((tensor.permute(order), array.transpose(order)))

    def write(self) -> None:
        tensor, array = self.any()
        index = self.index(array.shape)
        target = array[index]
        other, source = self.any()
        if source.shape == target.shape:
            tensor[index] = other
            array[index] = source.copy()
        else:
            value = float(self.number(-9, 9))
            tensor[index] = value
            array[index] = value

    def write_over_itself(self) -> None:
        tensor, array = self.any()
        tensor[:] = tensor.flip(0)
        array[:] = np.flip(array, 0).copy()

    def add_in_place(self) -> None:
        tensor, array = self.any()
        index = self.index(array.shape)
        tensor[index] += 1.0
        array[index] += 1.0

    def compute(self) -> None:
        tensor, array = self.any()
        if self.number(0, 1):
            self.pairs.append((tensor.sum(axis=0, keepdim=True), array.sum(0, keepdims=True)))
        else:
            self.pairs.append((tensor + 1.0, array + 1))

    def realize(self) -> None:
        some = [self.any()[0] for _ in range(self.number(1, 3))]
        Tensor.realize(*some)

    def drop(self) -> None:
        if len(self.pairs) > 1:
            del self.pairs[self.number(0, len(self.pairs) - 1)]

    def check(self) -> None:
        tensor, array = self.any()
        np.testing.assert_array_equal(tensor.numpy(), array)


_STEPS = (Program.new, Program.view, Program.view, Program.write, Program.write, Program.write_over_itself,
          Program.add_in_place, Program.compute, Program.realize, Program.realize, Program.drop,
          Program.check)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_programs_of_writes_agree_with_numpy(device_name: str, data: st.DataObject) -> None:
    program = Program(data, device_name)
    program.new()
    for _ in range(program.number(1, 16)):
        _STEPS[program.number(0, len(_STEPS) - 1)](program)
    for tensor, array in program.pairs:
        np.testing.assert_array_equal(tensor.numpy(), array)

"""Random keys of every kind read and write what NumPy reads and writes."""
from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluggrad import Tensor


class Keys:
    """A key for NumPy and the same one for a tensor, drawn entry by entry."""

    def __init__(self, data: st.DataObject, device: str) -> None:
        self.data, self.device = data, device

    def number(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    def array(self, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
        return np.random.default_rng(self.number(0, 1 << 16)).integers(low, high, shape)

    def both(self, values: np.ndarray) -> tuple[np.ndarray, object]:
        """The same data as a list, an array or a tensor."""
        way = self.number(0, 2)
        return values, (values.tolist() if values.size and way == 0 else values if way == 1
                        else Tensor(values, device=self.device))

    def key(self, shape: tuple[int, ...]) -> tuple[tuple, tuple]:
        common = [(), (1,), (3,), (2, 1), (2, 3)][self.number(0, 4)]
        axis, mine, theirs = 0, [], []
        dotted = False
        while axis < len(shape):
            way = self.number(0, 8)
            if way == 0 and not dotted:
                entry, dotted, axis = (..., ...), True, axis + self.number(0, len(shape) - axis)
            elif way == 1:
                entry = (None, None)
            elif way == 2:
                entry = (self.number(-shape[axis], shape[axis] - 1),) * 2
                axis += 1
            elif way in (3, 4):
                entry = (self.range(shape[axis]),) * 2
                axis += 1
            elif way == 5:
                rank = self.number(1, len(shape) - axis)
                entry = self.both(self.array(shape[axis:axis + rank], 0, 2).astype(bool))
                axis += rank
            else:
                drawn = common[self.number(0, len(common)):]
                entry = self.both(self.array(drawn, -shape[axis], shape[axis]))
                axis += 1
            mine.append(entry[0])
            theirs.append(entry[1])
        return tuple(mine), tuple(theirs)

    def range(self, size: int) -> slice:
        ends = [None, *range(-size - 1, size + 2)]
        start, stop = [ends[self.number(0, len(ends) - 1)] for _ in range(2)]
        return slice(start, stop, (None, 1, 2, -1, -2)[self.number(0, 4)])


def selected(array: np.ndarray, key: tuple) -> np.ndarray | None:
    """What NumPy selects; None where the parts of the key do not fit each other."""
    try:
        return array[key]
    except IndexError:
        return None


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_keys_agree_with_numpy(device_name: str, data: st.DataObject) -> None:
    keys = Keys(data, device_name)
    shape = tuple(keys.number(1, 5) for _ in range(keys.number(1, 4)))
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    mine, theirs = keys.key(shape)
    expected = selected(array, mine)
    if expected is None:
        return
    tensor = Tensor(array, device=device_name)
    found = tensor[theirs]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.numpy(), expected)
    first = keys.number(0, expected.ndim)
    value = -1 - keys.array(tuple(1 if keys.number(0, 3) == 0 else d for d in expected.shape)[first:], 0, 99)
    array[mine] = value
    tensor[theirs] = Tensor(value.astype(np.float32), device=device_name)
    np.testing.assert_array_equal(tensor.numpy(), array)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_writes_through_views_agree_with_numpy(device_name: str, data: st.DataObject) -> None:
    keys = Keys(data, device_name)
    shape = tuple(keys.number(1, 4) for _ in range(3))
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    tensor = Tensor(array, device=device_name, requires_grad=False).realize()
    order = data.draw(st.permutations(range(3)))
    window = tuple(slice(keys.number(0, d - 1), None) for d in shape)
    array_view = np.flip(array.transpose(order)[tuple(window[i] for i in order)], 1)
    view = tensor.permute(order)[tuple(window[i] for i in order)].flip(1)
    for step in range(keys.number(1, 3)):
        mine, theirs = keys.key(array_view.shape)
        if selected(array_view, mine) is None:
            continue
        array_view[mine] = -1 - step
        view[theirs] = -1 - step
        if keys.number(0, 1):
            tensor.realize()
    np.testing.assert_array_equal(tensor.numpy(), array)

"""Items to a batch: first arrays, which pass from process to process cheaply, then tensors on a device."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluggrad.data.dataset import Subset, TensorDataset
from pluggrad.data.order import Indices
from pluggrad.errors import DTypeError, ShapeError
from pluggrad.tensor import Tensor
from pluggrad.tensor.convert import to_array


def has_rows(dataset: object) -> bool:
    """True for tensors, arrays and subsets of them: a batch of these is one look-up."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return isinstance(dataset, TensorDataset | Tensor | np.ndarray)


def rows(dataset: Any, indices: Indices) -> Any:
    """The batch at `indices` of a dataset that has rows, stored where the dataset is."""
    while isinstance(dataset, Subset):
        dataset, indices = dataset.dataset, dataset.indices[indices]
    if isinstance(dataset, np.ndarray):
        return dataset[indices]
    single = isinstance(dataset, Tensor)
    # always by indices, which are data: each slice would be a kernel of its own
    found = [x.detach()[indices] for x in ((dataset,) if single else dataset.tensors)]
    Tensor.realize(*found)
    return found[0] if single else tuple(found)


def stacked(items: list[Any]) -> Any:
    """Items of one kind as one: numbers and arrays (n times shape s) as an array (n, *s), text as a list.

    Tuples, lists and dictionaries of these stay what they are, with a batch in each place. ShapeError, naming
    the item, if shapes or lengths differ; DTypeError for what holds no numbers.
    """
    first = items[0]
    if isinstance(first, str | bytes):
        return items
    if isinstance(first, Mapping):
        return {key: stacked([_part(item, key, at) for at, item in enumerate(items)]) for key in first}
    if isinstance(first, list | tuple):
        _same([len(item) for item in items], "lengths")
        columns = [stacked([item[place] for item in items]) for place in range(len(first))]
        return _like(first, columns)
    if isinstance(first, Tensor):
        _same([item.shape for item in items], "shapes")
        return Tensor.stack(*items)
    if type(first) in (bool, int, float):  # NumPy's float64 is a float, but brings its own dtype
        return to_array(items)[0]
    arrays = [np.asarray(item) for item in items]
    if arrays[0].dtype.kind not in "biuf":
        raise DTypeError(op="DataLoader", expected="numbers, arrays, tensors, text, and tuples, lists or "
                         "dictionaries of them", got=type(first).__name__, hint="Pass a collate_fn")
    _same([array.shape for array in arrays], "shapes")
    return np.stack(arrays)


def _part(item: Any, key: Any, at: int) -> Any:
    try:
        return item[key]
    except (KeyError, TypeError):
        raise ShapeError(op="DataLoader", expected=f"a key {key!r} in every item of a batch",
                         got=f"none in item {at}") from None


def _same(found: Sequence[Any], what: str) -> None:
    for at, each in enumerate(found):
        if each != found[0]:
            raise ShapeError(op="DataLoader", expected=f"items of equal {what} in a batch",
                             got=f"{found[0]} in item 0 and {each} in item {at}",
                             hint="Bring them to one shape in the dataset, or pass a collate_fn")


def _like(template: Any, parts: list[Any]) -> Any:
    """`parts` as a list, tuple or named tuple, as the template is."""
    kind = type(template)
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


def on_device(batch: Any, device: str | None) -> Any:
    """`batch` with every array and tensor in it as a tensor on `device`.

    Without one, arrays go to the default device, and tensors stay where they are.
    """
    if isinstance(batch, Tensor):
        return batch if device is None else batch.to(device)
    if isinstance(batch, np.ndarray | np.generic):
        return Tensor(batch, device=device)
    if isinstance(batch, Mapping):
        return {key: on_device(part, device) for key, part in batch.items()}
    if isinstance(batch, list | tuple):
        return _like(batch, [on_device(part, device) for part in batch])
    return batch

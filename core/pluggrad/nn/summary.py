"""What a model consists of: its layers in the order in which they run, with shapes, parameters and bytes."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pluggrad.nn.state.tensors import get_parameters, is_parameter, named_modules
from pluggrad.tensor import Tensor, no_grad
from pluggrad.tensor.random_state import get_rng_state, set_rng_state

_HEADINGS = ("layer", "output shape", "parameters", "bytes")


@dataclass(frozen=True)
class Row:
    """One layer. output: the shape of its result, or of each tensor in it. parameters: elements of the
    tensors that an optimizer would change, nbytes: of all its tensors, those of layers inside it included.
    depth: how many layers it lies within."""

    name: str
    kind: str
    output: Any
    parameters: int
    nbytes: int
    depth: int


@dataclass
class Summary:
    """The layers of a model as rows, and totals; as text a table. Tensors that are shared count once."""

    rows: list[Row]
    parameters: int
    nbytes: int

    def __str__(self) -> str:
        cells = [(f"{'  ' * row.depth}{row.name or 'model'} ({row.kind})", _shown(row.output),
                  f"{row.parameters:,}", f"{row.nbytes:,}") for row in self.rows]
        table = [_HEADINGS, *cells]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEADINGS))]
        lines = ["  ".join((*[cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)],
                            *[cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]))
                 for row in table]
        rule = "-" * len(lines[0])
        totals = f"{self.parameters:,} parameters, {self.nbytes:,} bytes"
        return "\n".join([lines[0], rule, *lines[1:], rule, totals])

    __repr__ = __str__


def summary(model: Any, *inputs: Any) -> Summary:
    """The layers of `model` in the order in which they run on `inputs`, as a table to print.

    inputs: shapes, as tuples, of float tensors, or tensors (for labels and indices), as the model takes
    them. The model runs as a graph of shapes alone, as in evaluation: nothing is computed, and its tensors
    and the random stream stay as they are. Layers are all that can be called, but functions: custom ones as
    well, also in lists. Shapes that do not fit raise the layer's own error.

    ```python
    print(nn.summary(model, (1, 3, 32, 32)))
    ```
    """
    tensors = get_parameters(model)
    found = Summary([], *_sizes(tensors))
    device = tensors[0].device if tensors else None
    given = [Tensor.empty(*each, device=device) if _is_shape(each) else each for each in inputs]
    random, nodes = get_rng_state(), [(tensor, tensor.node) for tensor in tensors]
    try:
        with _watched(model, found.rows), no_grad(), Tensor.train(False):
            _run(model, given)
    finally:
        set_rng_state(random)
        for tensor, node in nodes:
            if tensor.node is not node:
                tensor.rebind(node)
    return found


def _run(model: Any, given: list[Any]) -> None:
    if isinstance(model, list | tuple):
        given[0].sequential(model)
    else:
        model(*given)


@contextmanager
def _watched(model: Any, rows: list[Row]) -> Iterator[None]:
    """Calls of the layers in `model` are noted in `rows` while the block runs."""
    names = {id(layer): name for name, layer in named_modules(model) if not isinstance(layer, list | tuple)}
    kinds = {type(layer) for _, layer in named_modules(model) if id(layer) in names}
    calls = {kind: kind.__call__ for kind in kinds}
    own = {kind for kind in kinds if "__call__" in vars(kind)}
    running: list[int] = []

    def noting(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if id(layer) not in names or id(layer) in running[-1:]:  # of super(): noted already
                return call(layer, *args, **kwargs)
            place = len(rows)
            running.append(id(layer))
            try:
                result = call(layer, *args, **kwargs)
            finally:
                running.pop()
            rows.insert(place, _row(names[id(layer)], layer, result, len(running)))
            return result

        return noted

    try:
        for kind, call in calls.items():
            kind.__call__ = noting(call)
        yield
    finally:
        for kind, call in calls.items():
            if kind in own:
                kind.__call__ = call
            else:
                del kind.__call__


def _row(name: str, layer: Any, result: Any, depth: int) -> Row:
    parameters, nbytes = _sizes(get_parameters(layer))
    return Row(name, type(layer).__name__, _shapes(result), parameters, nbytes, depth)


def _sizes(tensors: list[Tensor]) -> tuple[int, int]:
    """Elements of the parameters among them, and bytes of all."""
    parameters = sum(tensor.numel() for tensor in tensors if is_parameter(tensor))
    return parameters, sum(tensor.nbytes() for tensor in tensors)


def _is_shape(given: object) -> bool:
    return isinstance(given, tuple | list) and all(isinstance(size, int) for size in given)


def _shapes(result: Any) -> Any:
    """The shape of a tensor; a list of those in a tuple or list; None for anything else."""
    if isinstance(result, Tensor):
        return result.shape
    return [_shapes(each) for each in result] if isinstance(result, tuple | list) else None


def _shown(shape: Any) -> str:
    if isinstance(shape, list):
        return ", ".join(_shown(each) for each in shape)
    return "-" if shape is None else str(shape)

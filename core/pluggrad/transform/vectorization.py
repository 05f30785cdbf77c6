"""vmap: a function of one element as a function of a batch."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from pluggrad.autograd import Batch, Source, batched
from pluggrad.errors import AxisError, ShapeError, ValueRangeError
from pluggrad.graph import build
from pluggrad.graph.leaf import stand_in
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.shape.broadcast import check_axis
from pluggrad.tensor import Tensor
from pluggrad.tensor.tracing import Trace, traced
from pluggrad.transform.containers import flatten, rebuild

_RANDOMNESS = ("error", "different", "same")


def vmap(fn: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0,
         randomness: str = "error") -> Callable[..., Any]:
    """The function that applies `fn` to every element of a batch at once.

    in_axes: the axis of the batch in each argument: an int, None for what is the same for all, or a tuple
    with one for each argument, each perhaps nested as that argument is. Arguments by name have it at axis 0.
    out_axes: where it is in the result, likewise; None for what does not depend on the batch. randomness:
    what a draw of random numbers inside means: "error", "different" ones for each element, or the "same".

    `fn` is called once, with tensors that have the shape of one element and no value: reading one (`item`,
    `if x:`) raises TransformError, and so does assigning one to a tensor from outside. What does not depend
    on the batch is computed once. ShapeError unless all batches are of one size.

        vmap(lambda row, x: row @ x, in_axes=(0, None))(matrix, vector)
    """
    if randomness not in _RANDOMNESS:
        raise ValueRangeError(op="vmap", expected=f"randomness to be one of {', '.join(_RANDOMNESS)}",
                              got=repr(randomness))

    @functools.wraps(fn, updated=())
    def whole(*args: Any, **kwargs: Any) -> Any:
        tensors: list[Tensor] = []
        form = flatten((args, kwargs), tensors)
        axes = _checked([*_spread(in_axes, args, "in_axes"), *_spread(0, kwargs, "in_axes")], tensors)
        batch = Batch(_size(tensors, axes))
        given: dict[Node, Node] = {}
        inside = [t if axis is None else _element(t, axis, given)
                  for t, axis in zip(tensors, axes, strict=True)]
        inner_args, inner_kwargs = rebuild(form, inside.__getitem__)
        with traced(Trace("vmap", randomness != "error")) as trace:
            result = fn(*inner_args, **inner_kwargs)
        outputs: list[Tensor] = []
        result_form, positions = flatten(result, outputs), _spread(out_axes, result, "out_axes")
        roots = [t.node for t in outputs]
        del result, outputs  # what is left now of what was written to is not the function's own
        trace.refuse_written(lambda node: _depends(node, given))
        if randomness == "different":
            batch = batch._replace(different=frozenset([bits.src[2] for bits in trace.draws]))
        placed = [_placed(source, axis, batch)
                  for source, axis in zip(batched(roots, given, batch), positions, strict=True)]
        return rebuild(result_form, lambda i: Tensor._of(placed[i]))

    return whole


# ---- axes --------------------------------------------------------------------------------------------------
def _spread(axes: Any, value: Any, name: str) -> list[int | None]:
    """An axis for each tensor of `value`; `axes` has the form of `value`, or of its outer part."""
    if axes is None or isinstance(axes, int):
        tensors: list[Tensor] = []
        flatten(value, tensors)
        return [axes] * len(tensors)
    if isinstance(axes, (tuple, list)) and isinstance(value, (tuple, list)) and len(axes) == len(value):
        return [axis for a, v in zip(axes, value, strict=True) for axis in _spread(a, v, name)]
    if isinstance(axes, dict) and isinstance(value, dict) and axes.keys() == value.keys():
        return [axis for key, v in value.items() for axis in _spread(axes[key], v, name)]
    raise ValueRangeError(op="vmap", expected=f"{name} that fit a {type(value).__name__}"
                          + (f" of {len(value)}" if isinstance(value, (tuple, list, dict)) else ""),
                          got=repr(axes), hint="An int or None stands for all tensors inside")


def _checked(axes: list[int | None], tensors: list[Tensor]) -> list[int | None]:
    """The axes, counted from the front; AxisError for one that a tensor lacks."""
    return [None if axis is None else _checked_axis(axis, len(t.shape))
            for axis, t in zip(axes, tensors, strict=True)]


def _checked_axis(axis: int, rank: int) -> int:
    if rank == 0:
        raise AxisError(op="vmap", expected="a tensor with an axis for the batch", got="one of no axes",
                        hint="in_axes=None passes it on as it is, for every element")
    return check_axis("vmap", axis, rank)


def _size(tensors: list[Tensor], axes: list[int | None]) -> int:
    """The one size of all batches."""
    sizes = [t.shape[axis] for t, axis in zip(tensors, axes, strict=True) if axis is not None]
    if not sizes:
        raise ValueRangeError(op="vmap", expected="at least one tensor with a batch",
                              got="none: all of in_axes is None" if tensors else "no tensors")
    if len(set(sizes)) > 1:
        raise ShapeError(op="vmap", expected="batches of one size", got=" and ".join(map(str, sizes)),
                         hint="in_axes says which axis of each argument is the batch")
    return sizes[0]


def _element(tensor: Tensor, axis: int, given: dict[Node, Node]) -> Tensor:
    """A stand-in for one element of a batch, which `given` notes with the axis first."""
    x = tensor.node
    first = build.permute(x, (axis, *[i for i in range(len(x.shape)) if i != axis]))
    one = stand_in(tensor_type(first.shape[1:], x.dtype, x.device), "vmap")
    given[one] = first
    return Tensor._of(one)


def _placed(source: Source, axis: int | None, batch: Batch) -> Node:
    """A result with its batch at `axis`."""
    if axis is None:
        if source.batched:
            raise ValueRangeError(op="vmap", expected="a result that is the same for all, by out_axes=None",
                                  got="one that depends on the batch",
                                  hint="Say at which axis the batch is to be")
        return source.node
    whole = source.repeated(batch)
    position = check_axis("vmap", axis, len(whole.shape))
    order = list(range(1, len(whole.shape)))
    order.insert(position, 0)
    return build.permute(whole, order)


def _depends(node: Node, given: dict[Node, Node]) -> bool:
    """Whether a value is that of one element."""
    return not given.keys().isdisjoint(toposort([node], lambda n: () if n.realized else n.src))

"""Derivatives of functions: gradients, products with the Jacobian from either side, whole Jacobians."""
from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import ref

from pluggrad import autograd, dtypes
from pluggrad.autograd import Batch, batched
from pluggrad.errors import GradientError, TransformError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.graph.leaf import Identity, stand_in
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, toposort
from pluggrad.tensor import Tensor
from pluggrad.tensor.grad_mode import enable_grad
from pluggrad.tensor.tracing import Trace, traced
from pluggrad.transform.containers import flatten, leaves, rebuild

Function = Callable[..., Any]


class _Argument:
    """A nested argument by which is differentiated: its form, its tensors, and a leaf for each float one."""

    __slots__ = ("op", "form", "tensors", "inside", "identities")

    def __init__(self, op: str, value: Any) -> None:
        self.op = op
        self.tensors: list[Tensor] = []
        self.form = flatten(value, self.tensors)
        self.identities = [Identity(None, True) if t.dtype.is_float else None for t in self.tensors]
        self.inside = [t if identity is None else _leaf(t, identity)
                       for t, identity in zip(self.tensors, self.identities, strict=True)]

    def filled(self, value: Callable[[Tensor, Identity], Any]) -> Any:
        """The form of the argument with a value for each float tensor; None stands for the others."""
        values = [None if identity is None else value(tensor, identity)
                  for tensor, identity in zip(self.tensors, self.identities, strict=True)]
        return rebuild(self.form, values.__getitem__)

    def close(self) -> None:
        """The call is over: nobody marks these leaves any more. TransformError if one was written to."""
        for tensor, inside, identity in zip(self.tensors, self.inside, self.identities, strict=True):
            if identity is None:
                continue
            if inside._identity is not identity:
                raise TransformError(op=self.op, expected="a function that does not write to its arguments",
                                     got=f"one that writes to a tensor of shape {tensor.shape}",
                                     hint="Write to a copy: x = x.clone()")
            identity.marked = False


def _leaf(tensor: Tensor, identity: Identity) -> Tensor:
    made = Tensor._of(build.leaf(tensor.node, identity))
    made._identity, identity.handle = identity, ref(made)
    return made


class _Call:
    """A function called with leaves of its own for some arguments: the result, and its tensors."""

    def __init__(self, op: str, fn: Function, args: Sequence[Any], kwargs: dict[str, Any],
                 argnums: Sequence[int], has_aux: bool = False) -> None:
        self.op = op
        self.arguments = [_Argument(op, args[number]) for number in argnums]
        given = list(args)
        for number, argument in zip(argnums, self.arguments, strict=True):
            given[number] = rebuild(argument.form, argument.inside.__getitem__)
        with enable_grad(), traced(Trace(op)):
            result = fn(*given, **kwargs)
        for argument in self.arguments:
            argument.close()
        aux = None
        if has_aux:
            if not isinstance(result, tuple) or len(result) != 2:
                raise GradientError(op=op, expected="the pair (value, aux) from the function, for has_aux",
                                    got=type(result).__name__)
            result, aux = result
        self.outputs: list[Tensor] = []
        self.form = flatten(result, self.outputs)
        self.aux = self._outside(aux)
        self.trace = autograd.trace(*[t.node for t in self.outputs])

    @property
    def result(self) -> Any:
        """What the function returned."""
        return rebuild(self.form, lambda i: self.outputs[i]._new(self.outputs[i].node))

    def _outside(self, value: Any) -> Any:
        """`value` without the tensors that were made for the call."""
        inside = {id(t) for argument in self.arguments for t in argument.inside}
        tensors: list[Tensor] = []
        form = flatten(value, tensors)
        if not any(id(t) in inside or id(t._base) in inside for t in tensors):
            return value
        return rebuild(form, lambda i: tensors[i]._new(tensors[i].node))

    def gradients(self, cotangents: Mapping[int, Node]) -> dict[Identity, Node]:
        """The gradient of each leaf that has one, given those of outputs by their numbers."""
        seeds: dict[Node, Node] = {}
        for number, g in cotangents.items():
            root = self.outputs[number].node
            seeds[root] = build.binary(ops.ADD, seeds[root], g) if root in seeds else g
        wanted = [identity for argument in self.arguments for identity in argument.identities if identity]
        return autograd.gradients(self.trace, seeds, wanted)

    def filled(self, value: Callable[[Tensor, Identity], Any]) -> list[Any]:
        """What `_Argument.filled` gives for each argument."""
        return [argument.filled(value) for argument in self.arguments]

    def float_outputs(self) -> list[int]:
        """Numbers of the outputs that have derivatives."""
        return [i for i, t in enumerate(self.outputs) if t.dtype.is_float]


def _check_arguments(op: str, args: Sequence[Any], argnums: Sequence[int]) -> None:
    """ValueRangeError or GradientError unless the arguments numbered are there and hold floats."""
    for number in argnums:
        if not -len(args) <= number < len(args):
            raise ValueRangeError(op=op, expected=f"argnums that number {len(args)} arguments",
                                  got=str(number),
                                  hint="Arguments by which is differentiated are given by position")
        tensors: list[Tensor] = []
        flatten(args[number], tensors)
        if not any(t.dtype.is_float for t in tensors):
            got = tensors[0].dtype.name if tensors else type(args[number]).__name__
            raise GradientError(op=op, expected=f"float tensors in argument {number}", got=got,
                                hint="Choose others by argnums, or make it a float tensor")


def _zeros(kind: TensorType) -> Node:
    return build.const(0.0, kind.dtype, kind.device, kind.shape)


def _argnums(argnums: int | Sequence[int]) -> Sequence[int]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def _unpacked(values: Sequence[Any], argnums: int | Sequence[int]) -> Any:
    return values[0] if isinstance(argnums, int) else tuple(values)


# ---- gradients ---------------------------------------------------------------------------------------------
def grad(fn: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The function that computes the gradient of `fn`, which returns one number, by arguments `argnums`.

    The gradient has the form of the argument: a tensor, or lists, tuples, dicts and objects with tensors in
    them, where None stands in the place of what is not float. With several argnums it is a tuple. has_aux:
    `fn` returns (value, aux), and the gradient comes as (gradient, aux). It can be differentiated again,
    batched and captured. GradientError if `fn` does not return one float; TransformError if it calls
    `backward` or writes to its arguments.

        grad(lambda x: (x ** 2).sum())(Tensor([1.0, 2.0]))      # [2, 4]
    """
    both = value_and_grad(fn, argnums, has_aux)

    @functools.wraps(fn, updated=())
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(fn: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """As `grad`, but the function returns (value, gradient), or ((value, aux), gradient)."""
    numbers = _argnums(argnums)

    @functools.wraps(fn, updated=())
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        _check_arguments("grad", args, numbers)
        call = _Call("grad", fn, args, kwargs, numbers, has_aux)
        value = call.result
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.dtype.is_float:
            got = f"{value.dtype.name} of shape {value.shape}" if isinstance(value, Tensor) \
                else type(value).__name__
            raise GradientError(op="grad", expected="a function that returns one float", got=got,
                                hint="Reduce it with sum() or mean(), or use jacobian; has_aux=True is for "
                                     "returning more")
        found = call.gradients({0: build.const(1.0, value.dtype, value.node.device, value.shape)})
        gradients = call.filled(lambda t, identity: t._new(found.get(identity) or _zeros(t.node.type)))
        return (value, call.aux) if has_aux else value, _unpacked(gradients, argnums)

    return value_and_gradient


def vjp(fn: Function, *primals: Any, has_aux: bool = False) -> Any:
    """`fn(*primals)`, and the function that multiplies the Jacobian by a cotangent from the left.

    That function takes what has the form of the result, a number for each element, and returns a tuple with
    the gradient of each argument, in the form of `grad`. has_aux: `fn` returns (value, aux), and aux comes
    third.
    """
    call = _Call("vjp", fn, primals, {}, range(len(primals)), has_aux)

    def pull_back(cotangents: Any) -> tuple[Any, ...]:
        found = call.gradients(_cotangents(call, cotangents))
        return tuple(call.filled(lambda t, identity: t._new(found.get(identity) or _zeros(t.node.type))))

    return (call.result, pull_back, call.aux) if has_aux else (call.result, pull_back)


def _cotangents(call: _Call, given: Any) -> dict[int, Node]:
    """The cotangent of each float output; GradientError unless they have the form of the result."""
    parts = leaves(given)
    if len(parts) != len(call.outputs):
        raise GradientError(op=call.op, expected=f"a cotangent for each of {len(call.outputs)} results",
                            got=f"{len(parts)}")
    return {i: _alike(call.op, parts[i], call.outputs[i])
            for i in call.float_outputs() if parts[i] is not None}


def _alike(op: str, value: Any, tensor: Tensor) -> Node:
    """A tangent or cotangent of `tensor`, of its dtype; GradientError for another shape."""
    found = build.cast(tensor._operand(value, op), tensor.dtype)
    if found.shape != tensor.shape:
        raise GradientError(op=op, expected=f"a tensor of shape {tensor.shape}", got=str(found.shape),
                            hint="It holds one number for each element of what it belongs to")
    return found


def jvp(fn: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """`fn(*primals)`, and the Jacobian times `tangents`: how the result changes as the arguments do.

    primals, tangents: tuples of arguments, alike in form; the tangent of what is not float is ignored.
    Returns (value, tangent), with has_aux (value, tangent, aux). This is forward mode, made by
    differentiating `vjp` by its cotangent, in which it is linear; what only that needs is never computed.
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)) \
            or len(primals) != len(tangents):
        raise GradientError(op="jvp", expected="a tuple of arguments and one of as many tangents",
                            got=f"{type(primals).__name__} and {type(tangents).__name__}")
    call = _Call("jvp", fn, primals, {}, range(len(primals)), has_aux)
    given: dict[Identity, Node] = {}
    for argument, tangent in zip(call.arguments, tangents, strict=True):
        parts = leaves(tangent)
        if len(parts) != len(argument.tensors):
            raise GradientError(op="jvp", expected=f"{len(argument.tensors)} tangents for an argument",
                                got=str(len(parts)))
        given |= {identity: _alike("jvp", part, tensor) for part, tensor, identity
                  in zip(parts, argument.tensors, argument.identities, strict=True) if identity is not None}
    pushed = _Forward(call).push(given)
    tangent = rebuild(call.form, lambda i: _tangent(call.outputs[i], pushed.get(i)))
    return (call.result, tangent, call.aux) if has_aux else (call.result, tangent)


def _tangent(output: Tensor, found: Node | None) -> Tensor:
    return output._new(_zeros(output.node.type) if found is None else found)


class _Forward:
    """Forward mode: gradients by stand-ins for the cotangents, differentiated by these."""

    def __init__(self, call: _Call) -> None:
        self.duals = {i: stand_in(call.outputs[i].node.type, "jvp") for i in call.float_outputs()}
        self.gradients = call.gradients(self.duals)

    def push(self, tangents: Mapping[Identity, Node]) -> dict[int, Node]:
        """The tangents of outputs, by number, given those of leaves; one that is left out is zero."""
        seeds: dict[Node, Node] = {}
        for identity, tangent in tangents.items():
            gradient = self.gradients.get(identity)
            if gradient is not None:
                seeds[gradient] = build.binary(ops.ADD, seeds[gradient], tangent) if gradient in seeds \
                    else tangent
        reached = autograd.trace(*seeds)
        found = autograd.propagate(reached.order, seeds, list(self.duals.values()))
        found = dict(zip(found, self._without_waits(list(found.values())), strict=True))
        if not set(toposort(found.values())).isdisjoint(self.duals.values()):
            raise GradientError(op="jvp", expected="rules of custom_vjp that are linear in the gradient",
                                got="one that is not", hint="Use vjp or jacobian of what has few results")
        return {i: found[dual] for i, dual in self.duals.items() if dual in found}

    def _without_waits(self, tangents: list[Node]) -> tuple[Node, ...]:
        """The tangents, waiting for no cotangent: forwards, `checkpoint` has nothing to put off."""
        waits = set(self.duals.values())
        for n in toposort(tangents):
            if not waits.isdisjoint(n.src):
                waits.add(n)
        return rewrite(tangents, lambda old, src: src[0] if old.op is ops.BARRIER and old.src[1] in waits
                       else node(old.op, src, old.arg, old.type))


# ---- whole Jacobians ---------------------------------------------------------------------------------------
def jacobian(fn: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The function that computes all derivatives of what `fn` returns by arguments `argnums`.

    For a result of shape S and an argument of shape A it is a tensor of shape (*S, *A). In the place of each
    tensor of a nested result stands the form of the argument. Computed as one batch of products, from the
    side that has fewer elements. has_aux as for `grad`: (jacobian, aux).
    """
    numbers = _argnums(argnums)

    @functools.wraps(fn, updated=())
    def derivatives(*args: Any, **kwargs: Any) -> Any:
        _check_arguments("jacobian", args, numbers)
        call = _Call("jacobian", fn, args, kwargs, numbers, has_aux)
        results = call.float_outputs()
        if len(results) < len(call.outputs) or not results:
            raise GradientError(op="jacobian", expected="a function that returns float tensors",
                                got=", ".join(t.dtype.name for t in call.outputs) or "no tensors")
        arguments = [(t, identity) for argument in call.arguments
                     for t, identity in zip(argument.tensors, argument.identities, strict=True) if identity]
        outputs = sum(t.numel() for t in call.outputs)
        backwards = outputs <= sum(t.numel() for t, _ in arguments)
        found = _by_rows(call) if backwards else _by_columns(call, arguments)

        def blocks_of(i: int) -> Any:
            output, parts = call.outputs[i], found[i]
            return _unpacked(call.filled(lambda t, leaf: _block(output, t, parts.get(leaf))), argnums)

        blocks = rebuild(call.form, blocks_of)
        return (blocks, call.aux) if has_aux else blocks

    return derivatives


def _block(output: Tensor, argument: Tensor, found: Node | None) -> Tensor:
    shape = (*output.shape, *argument.shape)
    if found is None:
        kind = argument.node.type
        return output._new(build.const(0.0, kind.dtype, kind.device, shape))
    return output._new(build.reshape(found, shape))


def _by_rows(call: _Call) -> list[dict[Identity, Node]]:
    """Of each output the derivatives by each leaf, (elements of the output, *shape of the leaf)."""
    found = []
    for i, output in enumerate(call.outputs):
        kind = output.node.type
        row = stand_in(kind, "jacobian")
        gradients = call.gradients({i: row})
        whole = batched(list(gradients.values()), {row: _basis(kind)}, batch := Batch(kind.size))
        rows = [source.repeated(batch) for source in whole]
        found.append(dict(zip(gradients, rows, strict=True)))
    return found


def _by_columns(call: _Call, arguments: Sequence[tuple[Tensor, Identity]]) -> list[dict[Identity, Node]]:
    """As `_by_rows`, but computed forwards: (*shape of the output, elements of the leaf)."""
    forward = _Forward(call)
    found: list[dict[Identity, Node]] = [{} for _ in call.outputs]
    for tensor, identity in arguments:
        kind = tensor.node.type
        column = stand_in(kind, "jacobian")
        pushed = forward.push({identity: column})
        whole = batched(list(pushed.values()), {column: _basis(kind)}, batch := Batch(kind.size))
        for i, source in zip(pushed, whole, strict=True):
            columns = source.repeated(batch)
            found[i][identity] = build.permute(columns, (*range(1, len(columns.shape)), 0))
    return found


def _basis(kind: TensorType) -> Node:
    """The unit vectors of the space of such tensors, one after another."""
    size, device = kind.size, kind.device
    numbers = build.iota(size, dtypes.int32 if size <= dtypes.int32.max else dtypes.int64, device)
    unit = build.binary(ops.EQ, build.reshape(numbers, (size, 1)), build.reshape(numbers, (1, size)))
    return build.reshape(build.cast(unit, kind.dtype), (size, *kind.shape))


def hessian(fn: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The function that computes all second derivatives of `fn` by arguments `argnums`: `jacobian` twice.

    For a result of shape S and an argument of shape A a tensor of shape (*S, *A, *A); with several argnums a
    tuple of tuples, the first derivative first.
    """
    return jacobian(jacobian(fn, argnums, has_aux), argnums, has_aux)

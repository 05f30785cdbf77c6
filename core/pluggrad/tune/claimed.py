"""Kernels that a backend's library takes over, whole or with what is computed around a product set apart."""
from __future__ import annotations

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.matmul import find_matmul, product_under
from pluggrad.kernel.offer import Claim, Extern
from pluggrad.tune.actions import merge_adjacent, prune_buffers
from pluggrad.tune.place import place, whole

Part = tuple[Kernel, Extern | None]


def claimed_parts(kernel: Kernel, claim: Claim) -> list[Part]:
    """The parts of a kernel in order, with what takes them over.

    The whole kernel is offered first, then each product of matrices in it. A product that is taken leaves a
    kernel that goes on from its result; the parts number the memory between them after the kernel's buffers.
    """
    kernel = merge_adjacent(kernel)
    extern = claim(prune_buffers(kernel)[0])
    if extern is not None:
        return [(kernel, extern)]
    taken: list[Part] = []
    asked: set[Node] = set()
    while (value := _product_in(kernel, asked)) is not None:
        asked.add(value)
        apart = _set_apart(kernel, value)
        extern = claim(prune_buffers(apart[0])[0]) if apart is not None else None
        if apart is not None and extern is not None:
            taken.append((apart[0], extern))
            kernel = apart[1]
    return [*taken, (kernel, None)]


def _product_in(kernel: Kernel, known: set[Node]) -> Node | None:
    """A product of loaded values, in the dtype in which the kernel goes on with it."""
    order = toposort(kernel.stores)
    for n in order:
        if n in known or product_under(n) is None:
            continue
        users = [user for user in order if n in user.src]
        if len(users) > 1 or users[0].op is not g.CAST:
            return n
    return None


def _set_apart(kernel: Kernel, value: Node) -> tuple[Kernel, Kernel] | None:
    """The kernel that computes `value`, and one that does the rest; None where it is no matrix product."""
    store = next(n for n in kernel.stores if value in toposort([n]))
    written = linear(store.src[0]).strides
    outputs = [a for a in kernel.axes if a.id in store.arg[1]]
    dims = [whole(a) for a in sorted(outputs, key=lambda a: -abs(written.get(a.id, 0)))]
    placed = place(kernel, value, dims, "product")
    if placed is None:
        return None
    product = merge_adjacent(placed[0])
    return (product, placed[1]) if find_matmul(product) is not None else None

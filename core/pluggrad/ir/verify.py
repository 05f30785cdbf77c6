"""Checking a graph against its stage's grammar; runs between passes in tests and in `explain`."""
from __future__ import annotations

from collections.abc import Iterable

from pluggrad.errors import VerifyError
from pluggrad.ir.node import Node
from pluggrad.ir.opset import Grammar
from pluggrad.ir.text import node_text
from pluggrad.ir.walk import toposort


def verify(roots: Iterable[Node], grammar: Grammar, pass_name: str) -> None:
    """VerifyError for the first node, sources first, that does not follow `grammar`.

    It names the op, the pass that ran before, and the neighborhood.
    """
    for node in toposort(roots):
        complaint = grammar.complaint(node)
        if complaint:
            raise violation(node, grammar.stage, pass_name, complaint)


def violation(node: Node, stage: str, pass_name: str, complaint: str) -> VerifyError:
    """The error for one node."""
    return VerifyError(op=f"{node.op.name} in the {stage} after {pass_name}", expected=complaint,
                       got=f"\n{neighborhood(node)}")


def neighborhood(node: Node, depth: int = 2) -> str:
    """The node and its sources, `depth` levels down, as text."""
    near, level = [node], [node]
    for _ in range(depth):
        level = [source for user in level for source in user.src]
        near += level
    order = list(dict.fromkeys(reversed(near)))
    beyond = [source for user in order for source in user.src]
    numbers = {seen: i for i, seen in enumerate(dict.fromkeys([*order, *beyond]))}
    return "\n".join(f"  {node_text(shown, numbers)}" for shown in order)

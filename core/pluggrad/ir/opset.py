"""A stage's grammar: which ops may occur, and a rule for each."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pluggrad.ir.node import Node, Op

Rule = Callable[[Node], str]  # what was expected where the node breaks the rule, "" where it keeps it


@dataclass(frozen=True, slots=True)
class Grammar:
    """`rules` lists every op of the stage; arity is checked from the op's own row."""

    stage: str
    rules: Mapping[Op, Rule]

    def complaint(self, node: Node) -> str:
        """What was expected instead of `node`; "" for a node that follows the grammar."""
        rule = self.rules.get(node.op)
        if rule is None:
            return f"an op of the {self.stage} stage"
        if node.op.arity not in (-1, len(node.src)):
            return f"{node.op.arity} sources"
        return rule(node)


def anything(node: Node) -> str:
    """The rule of ops that only their arity restricts."""
    return ""


def first_complaint(*rules: Rule) -> Rule:
    """A rule that holds where all of `rules` do, asked in order."""
    def rule(node: Node) -> str:
        return next((text for text in (check(node) for check in rules) if text), "")
    return rule

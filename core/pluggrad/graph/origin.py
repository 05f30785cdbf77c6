"""Where nodes come from, while somebody wants to know: nothing is recorded otherwise."""
from __future__ import annotations

from collections.abc import Callable

from pluggrad.ir.node import Node

operation: Callable[[Node], None] | None = None  # told of the node that each operation of a user makes
gradient: Callable[[Node, Node], None] | None = None  # told of each gradient, and of whose rule made it

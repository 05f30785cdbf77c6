"""Text of one kernel while it is being written: statements, and the functions and types that they need."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from pluggrad.dtypes import DType


@dataclass(frozen=True, slots=True)
class Value:
    """An expression of `lanes` elements (1: a scalar).

    dtype: of the C type, which is an unsigned integer for the bits of a float that is not computed in. Lanes
    of bools are masks: signed integers of any width, 0 or -1. form: a name (or a literal) is free to repeat,
    a call (or a cast) is computed wherever it stands, an operation needs parentheses as an operand.
    """

    text: str
    dtype: DType
    lanes: int = 1
    form: Literal["name", "call", "operation"] = "name"

    def __str__(self) -> str:
        return f"({self.text})" if self.form == "operation" else self.text

    @property
    def is_literal(self) -> bool:
        """Whether it is a number as it stands in the text, whose C type may be narrower than `dtype`."""
        return self.form == "name" and not self.text.isidentifier()

    def named(self, name: str) -> Value:
        """The variable of that name, which holds this value."""
        return replace(self, text=name, form="name")


def shared_name(kind: str) -> str:
    """What the group's memory of elements of a C type is called; the name of a type may be several words."""
    return f"shared_{kind.replace(' ', '_')}"


def merged(sources: Iterable[str]) -> str:
    """The kernels of several sources as one. They are blocks between blank lines; what several use stands in
    each of them as the same block, and once in the result."""
    blocks = dict.fromkeys(block.strip("\n") for source in sources for block in source.split("\n\n"))
    return "\n\n".join(blocks) + "\n"


class Source:
    """Statements in order, indented by blocks. `pieces` are what stands before the kernel, by name; `shared`
    says how many elements of the group's memory there are of each type."""

    def __init__(self, pieces: dict[str, str] | None = None, depth: int = 1) -> None:
        self.pieces: dict[str, str] = {} if pieces is None else pieces
        self.shared: dict[str, int] = {}
        self.lines: list[str] = []
        self._depth = depth
        self._names = 0

    def do(self, text: str) -> None:
        """A statement, with its semicolon."""
        self.lines.append("    " * self._depth + text)

    def name(self, hint: str = "t") -> str:
        """A name not given before."""
        self._names += 1
        return f"{hint}{self._names}"

    def open(self, head: str) -> None:
        """The head of a block, as `for (...)`."""
        self.do(f"{head} {{")
        self._depth += 1

    def turn(self, text: str) -> None:
        """Close a block and open the next, as `else`."""
        self._depth -= 1
        self.do(f"}} {text} {{")
        self._depth += 1

    def close(self) -> None:
        """The end of a block."""
        self._depth -= 1
        self.do("}")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """A block around what is written meanwhile."""
        self.open(head)
        yield
        self.close()

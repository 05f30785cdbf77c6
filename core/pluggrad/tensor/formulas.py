"""Formulas in letters: `einsum`, and einops' `rearrange`. Errors mark the fault in the formula."""
from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from itertools import chain, combinations
from typing import Any, Final, NamedTuple, Self, TypeVar

from pluggrad import dtypes
from pluggrad.errors import DTypeError, ShapeError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.shape.dims import Shape
from pluggrad.tensor.base import place
from pluggrad.tensor.matrices import Matrices

_ELLIPSIS: Final = "..."
T = TypeVar("T", bound="Formulas")


class Token(NamedTuple):
    """A name in a formula, and the column where it stands."""

    name: str
    column: int


class Factor(NamedTuple):
    """An operand of a product of several, and the name of each of its axes."""

    node: Node
    names: tuple[str, ...]


def _fault(op: str, formula: str, token: Token, expected: str, got: str) -> ShapeError:
    """The error that shows the formula with carets under the token."""
    carets = " " * token.column + "^" * max(len(token.name), 1)
    return ShapeError(op=op, expected=expected, got=got, hint=f"Here:\n    {formula}\n    {carets}")


class Formulas(Matrices):
    """Methods whose axes have names."""

    __slots__ = ()

    @classmethod
    def einsum(cls, formula: str, *operands: Any, dtype: Any = None) -> Self:
        """Products of tensors summed over axes, as NumPy's formulas say: `einsum("bij,bjk->bik", x, y)`.

        A letter names an axis; axes of one letter are of one size, or 1. A letter that the result lacks is
        summed over, one that an operand has twice is its diagonal, "..." are leading axes that broadcast.
        Without "->" the result has the letters that occur once, in alphabetical order. Two operands at a time
        are multiplied, the cheapest first. Halves add up in float32; the result has the promoted dtype, or
        `dtype`. ShapeError marks what is wrong in the formula.
        """
        terms, wanted = _terms(formula)
        tensors = _tensors(cls, operands)
        if len(terms) != len(tensors):
            raise ShapeError(op="einsum", expected=f"{len(terms)} operands for {formula!r}",
                             got=str(len(tensors)))
        promoted = reduce(dtypes.promote, [x.dtype for x in tensors])
        working = dtypes.accumulator_dtype(promoted) if promoted.is_float else dtypes.sum_dtype(promoted)
        names, sizes = _named(formula, terms, [x.shape for x in tensors])
        result = _result_names(formula, names, wanted, sizes)
        factors = [x.cast(working)._factor(found, sizes) for x, found in zip(tensors, names, strict=True)]
        product = _permuted(_multiplied(factors, result, sizes), result)
        return tensors[0]._new(build.cast(product, promoted if dtype is None else dtypes.to_dtype(dtype)))

    def _factor(self, names: Sequence[str], sizes: dict[str, int]) -> Factor:
        """This operand without the axes that broadcast, and its diagonal where a name occurs twice."""
        kept = [i for i, name in enumerate(names) if self.shape[i] == sizes[name]]
        x, left = self.reshape([self.shape[i] for i in kept]), [names[i] for i in kept]
        for name in dict.fromkeys(left):
            while left.count(name) > 1:
                first = left.index(name)
                second = left.index(name, first + 1)
                x = x.diagonal(0, first, second)
                left = [*[other for i, other in enumerate(left) if i not in (first, second)], name]
        return Factor(x.node, tuple(left))

    def rearrange(self, formula: str, **sizes: int) -> Self:
        """einops' `rearrange`: `x.rearrange("b (h w) c -> b c h w", h=8)`.

        Names in parentheses share an axis; `sizes` says how it divides, where that cannot be worked out. "1"
        is an axis of size 1, "..." all axes not named. ShapeError marks what is wrong in the formula.
        """
        left, right = _sides(formula)
        spread = self.ndim - sum(not group.is_ellipsis for group in left)
        if spread < 0 or (spread and not any(group.is_ellipsis for group in left)):
            raise _fault("rearrange", formula, Token(formula.partition("->")[0].rstrip(), 0),
                         f"names for {self.ndim} axes", f"{len(left)} for shape {self.shape}")
        sources, targets = _expanded(left, spread), _expanded(right, spread)
        known: dict[str, int] = {}
        for dim, group in zip(self.shape, sources, strict=True):
            known.update(_divided(formula, dim, group, sizes))
        unknown = sizes.keys() - known.keys()
        if unknown:
            raise ShapeError(op="rearrange", expected=f"sizes of names in {formula!r}", got=str(min(unknown)))
        names, wanted = list(known), [token.name for token in chain(*targets)]
        moved = self.reshape(list(known.values())).permute([names.index(name) for name in wanted])
        return moved.reshape([math.prod([known[token.name] for token in group]) for group in targets])


# ---- einsum ------------------------------------------------------------------------------------------------
def _tensors(cls: type[T], operands: Sequence[Any]) -> list[T]:
    """The operands as tensors, given one by one or as one list."""
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    first = next((x for x in given if isinstance(x, cls)), None)
    device = None if first is None else first.device
    tensors = [x if isinstance(x, cls) else cls._from_data(x, None, place(device)) for x in given]
    if not tensors:
        raise DTypeError(op="einsum", expected="at least one operand", got="none")
    build.same_device("einsum", *[x.node for x in tensors])
    return tensors


def _terms(formula: str) -> tuple[list[list[Token]], list[Token] | None]:
    """The names of each operand's axes, and those of the result's where the formula has an arrow."""
    if not isinstance(formula, str):
        raise DTypeError(op="einsum", expected="a formula such as 'ij,jk->ik'", got=type(formula).__name__)
    terms: list[list[Token]] = [[]]
    operands: list[list[Token]] | None = None
    for found in re.finditer(r"->|\.\.\.|\S", formula):
        token = Token(found.group(), found.start())
        if token.name in ("->", ",") and operands is not None:
            raise _fault("einsum", formula, token, "one result, after one arrow", repr(token.name))
        if token.name == "->":
            operands, terms = terms, [[]]
        elif token.name == ",":
            terms.append([])
        elif token.name == _ELLIPSIS and any(known.name == _ELLIPSIS for known in terms[-1]):
            raise _fault("einsum", formula, token, "'...' once for an operand", "another one")
        elif token.name == _ELLIPSIS or re.fullmatch("[A-Za-z]", token.name):
            terms[-1].append(token)
        else:
            raise _fault("einsum", formula, token, "letters, '...', ',' and '->'", repr(token.name))
    return (terms, None) if operands is None else (operands, terms[0])


def _named(formula: str, terms: Sequence[Sequence[Token]],
           shapes: Sequence[Shape]) -> tuple[list[list[str]], dict[str, int]]:
    """A name for each axis of each operand, and the size of each name. Those of "..." count from its end."""
    names: list[list[str]] = []
    sizes: dict[str, int] = {}
    for number, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        spread = len(shape) - sum(token.name != _ELLIPSIS for token in term)
        if spread < 0 or (spread and all(token.name != _ELLIPSIS for token in term)):
            raise _fault("einsum", formula, _whole(formula, term, number),
                         f"{len(shape)} names for operand {number} of shape {shape}", str(len(term)))
        found = _spread(term, spread)
        for token, dim in zip(found, shape, strict=True):
            size = sizes.setdefault(token.name, dim)
            if 1 not in (size, dim) and size != dim:
                raise _fault("einsum", formula, token._replace(name=token.name[:3]), got=f"{dim}",
                             expected=f"size {size} for {token.name[:3]!r} of operand {number}, as before")
            sizes[token.name] = dim if size == 1 else size
        names.append([token.name for token in found])
    return names, sizes


def _whole(formula: str, term: Sequence[Token], number: int) -> Token:
    """The place of one operand's names, or of where they should be."""
    if not term:
        return Token("", len(",".join(formula.partition("->")[0].split(",")[: number + 1])))
    last = term[-1]
    return Token(formula[term[0].column : last.column + len(last.name)], term[0].column)


def _spread(term: Sequence[Token], count: int) -> list[Token]:
    """The names with "..." written out as `count` of them."""
    dots = {_ELLIPSIS: [f"{_ELLIPSIS}{i}" for i in range(count, 0, -1)]}
    return [token._replace(name=name) for token in term for name in dots.get(token.name, [token.name])]


def _result_names(formula: str, names: Sequence[Sequence[str]], wanted: Sequence[Token] | None,
                  sizes: dict[str, int]) -> tuple[str, ...]:
    """The names of the result's axes."""
    dots = sum(name.startswith(_ELLIPSIS) for name in sizes)
    if wanted is None:
        counts = Counter(chain(*names))
        letters = sorted(name for name, count in counts.items() if count == 1 and len(name) == 1)
        return (*[token.name for token in _spread([Token(_ELLIPSIS, 0)], dots)], *letters)
    result: list[str] = []
    for token in _spread(wanted, dots):
        if token.name not in sizes:
            raise _fault("einsum", formula, token, "names of the operands in the result", repr(token.name))
        if token.name in result:
            raise _fault("einsum", formula, token, "each name once in the result", repr(token.name))
        result.append(token.name)
    return tuple(result)


def _multiplied(factors: list[Factor], result: tuple[str, ...], sizes: dict[str, int]) -> Factor:
    """The product of all factors: the cheapest pair first, of equals the one that leaves less."""
    factors = [_summed(x, _needed([*factors[:i], *factors[i + 1:]], result)) for i, x in enumerate(factors)]

    def price(pair: tuple[int, int]) -> tuple[int, int]:
        names = {*factors[pair[0]].names, *factors[pair[1]].names}
        kept = names & _needed([x for i, x in enumerate(factors) if i not in pair], result)
        return math.prod([sizes[n] for n in names]), math.prod([sizes[n] for n in kept])

    while len(factors) > 1:
        pair = min(combinations(range(len(factors)), 2), key=price)
        rest = [x for i, x in enumerate(factors) if i not in pair]
        factors = [*rest, _product(factors[pair[0]], factors[pair[1]], _needed(rest, result))]
    return factors[0]


def _needed(factors: Sequence[Factor], result: Sequence[str]) -> set[str]:
    return {*result, *chain(*[factor.names for factor in factors])}


def _summed(factor: Factor, needed: set[str]) -> Factor:
    axes = [axis for axis, name in enumerate(factor.names) if name not in needed]
    kept = tuple([name for name in factor.names if name in needed])
    return Factor(build.reduce(ops.SUM, factor.node, axes), kept) if axes else factor


def _product(x: Factor, y: Factor, needed: set[str]) -> Factor:
    """The product of two factors, summed over what is not needed any more: a contraction to the compiler."""
    names = tuple(dict.fromkeys([*x.names, *y.names]))
    product = build.binary(ops.MUL, _aligned(x, names), _aligned(y, names))
    return _summed(Factor(product, names), needed)


def _aligned(factor: Factor, names: Sequence[str]) -> Node:
    """The factor with axes in this order, of size 1 where it lacks one."""
    found = _permuted(factor, [name for name in names if name in factor.names])
    sizes = dict(zip(factor.names, factor.node.shape, strict=True))
    return build.reshape(found, [sizes.get(name, 1) for name in names])


def _permuted(factor: Factor, names: Sequence[str]) -> Node:
    return build.permute(factor.node, [factor.names.index(name) for name in names])


# ---- rearrange ---------------------------------------------------------------------------------------------
class Group(NamedTuple):
    """Names that share an axis, or one that stands alone."""

    tokens: tuple[Token, ...]
    alone: bool

    @property
    def is_ellipsis(self) -> bool:
        """Whether it stands for any number of axes."""
        return self.alone and self.tokens[0].name == _ELLIPSIS


def _sides(formula: str) -> tuple[list[Group], list[Group]]:
    """What stands left and right of the arrow, each name once on both sides."""
    found = list(re.finditer("->", formula))
    if len(found) != 1:
        place = Token("->", found[1].start()) if found else Token("", len(formula))
        raise _fault("rearrange", formula, place, "one '->', as in 'a (b c) -> c a b'", str(len(found)))
    left = _groups(formula, 0, found[0].start())
    right = _groups(formula, found[0].end(), len(formula))
    names = [{token.name for group in side for token in group.tokens} for side in (left, right)]
    for side, other in ((left, names[1]), (right, names[0])):
        for group in side:
            for token in group.tokens:
                if token.name not in other:
                    raise _fault("rearrange", formula, token, "each name on both sides", repr(token.name))
    return left, right


def _groups(formula: str, start: int, end: int) -> list[Group]:
    """One side of the formula."""
    groups: list[Group] = []
    inside: list[Token] | None = None
    opened = Token("(", start)
    seen: set[str] = set()
    for found in re.compile(r"\.\.\.|[A-Za-z_]\w*|\S").finditer(formula, start, end):
        token = Token(found.group(), found.start())
        if token.name == "(" and inside is None:
            inside, opened = [], token
        elif token.name == ")" and inside is not None:
            groups.append(Group(tuple(inside), False))
            inside = None
        elif token.name == "1":
            groups += [] if inside is not None else [Group((), False)]
        elif token.name in seen or not (token.name == _ELLIPSIS or token.name.isidentifier()):
            raise _fault("rearrange", formula, token, got=repr(token.name),
                         expected="names once on each side, '...', '1' and parentheses that are not nested")
        else:
            seen.add(token.name)
            if inside is None:
                groups.append(Group((token,), True))
            else:
                inside.append(token)
    if inside is not None:
        raise _fault("rearrange", formula, opened, "a closing parenthesis", "none")
    return groups


def _expanded(side: Sequence[Group], count: int) -> list[list[Token]]:
    """The names that share each axis, with "..." written out as `count` of them."""
    axes: list[list[Token]] = []
    for group in side:
        tokens = _spread(group.tokens, count)
        axes += [[token] for token in tokens] if group.alone else [tokens]
    return axes


def _divided(formula: str, dim: int, group: Sequence[Token], sizes: dict[str, int]) -> dict[str, int]:
    """The sizes of the names that share an axis of `dim`: at most one of them is worked out."""
    free = [token for token in group if token.name not in sizes]
    if len(free) > 1:
        raise _fault("rearrange", formula, free[1], "sizes for all but one of the names in parentheses",
                     f"none for {free[0].name!r} and {free[1].name!r}")
    rest = math.prod([sizes[token.name] for token in group if token not in free])
    if rest * (dim // rest if free and rest > 0 else 1) != dim:
        place = group[0] if group else Token("1", 0)
        raise _fault("rearrange", formula, place, f"sizes whose product is {dim}", str(rest))
    return {token.name: dim // rest if token in free else sizes[token.name] for token in group}

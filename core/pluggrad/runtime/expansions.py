"""What graphs with calls came to: a step of a loop is looked up as short as it was written, and is expanded
once."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pluggrad.dtypes import DType
from pluggrad.graph.scalar import Scalar
from pluggrad.graph.template import expand
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node
from pluggrad.runtime.normalize import Key, Normalized, Row, normalize

_MOST: Final = 256
_PATIENCE: Final = 32  # graphs in a row that are not found, until calls are left alone for _PAUSE questions
_RETRIES: Final = 8
_PAUSE: Final = 512


@dataclass(frozen=True, slots=True)
class _Expansion:
    """A normalized graph without calls. inputs: the number that each has in the graph with calls. scalars:
    the same for those that a host value is behind; others are what they were."""

    rows: tuple[Row, ...]
    roots: tuple[int, ...]
    inputs: tuple[int, ...]
    input_types: list[TensorType]
    scalars: tuple[int | Scalar, ...]
    scalar_dtypes: tuple[DType, ...]
    key: Key

    def over(self, short: Normalized) -> Normalized:
        """The graph over the data of a graph with calls."""
        inputs, scalars = short.inputs, short.scalars
        return Normalized(self.rows, self.roots, [inputs[i] for i in self.inputs], self.input_types,
                          [scalars[s] if isinstance(s, int) else s for s in self.scalars],
                          self.scalar_dtypes, [], known_key=self.key)


_expansions: dict[Key, _Expansion] = {}
_met: dict[int, None] = {}  # hashes of keys: what is met once only, as where a constant changes, is not kept
_missed = 0  # in a row; beyond _PATIENCE also the questions since


def pay() -> bool:
    """Whether calls save work: not in a loop that changes a constant in every step, whose graphs are new."""
    global _missed
    if _missed < _PATIENCE:
        return True
    _missed += 1
    if _missed == _PATIENCE + _PAUSE:
        _missed = _PATIENCE - _RETRIES
    return False


def expanded(short: Normalized, roots: Sequence[Node]) -> Normalized:
    """The normalized graph of `roots` without calls; `short`: with them. Called under the runtime's lock."""
    # constants are part of the key, gradients are made of them, and so is which readings are equal: they may
    # be only today, and the expanded graph has one in place of both
    known: dict[Any, int] = {}
    scalars = [s if s.source is None else known.setdefault((s, dtype), i)
               for i, (s, dtype) in enumerate(zip(short.scalars, short.scalar_dtypes, strict=True))]
    key = Key((short.rows, short.roots, tuple(scalars)))
    global _missed
    found = _expansions.get(key)
    if found is not None:
        _missed = 0
        return found.over(short)
    _missed += 1
    whole = normalize(expand(roots))
    met = hash(key)
    if met in _met:
        made = None if whole.apart else _matched(short, whole)
        if made is not None:
            _keep(_expansions, key, made)
    else:
        _keep(_met, met, None)
    return whole


def _matched(short: Normalized, whole: Normalized) -> _Expansion | None:
    """How the data of both belong together; None where the whole graph reads what the short one does not."""
    inputs = {version: number for number, version in enumerate(short.inputs)}
    scalars = {known: i for i, known in enumerate(zip(short.scalars, short.scalar_dtypes, strict=True))}
    numbers = [inputs.get(version) for version in whole.inputs]
    chosen = [scalar if scalar.source is None else scalars.get((scalar, dtype))
              for scalar, dtype in zip(whole.scalars, whole.scalar_dtypes, strict=True)]
    found = tuple([n for n in numbers if n is not None])
    given = tuple([s for s in chosen if s is not None])
    if len(found) < len(numbers) or len(given) < len(chosen):
        return None
    return _Expansion(whole.rows, whole.roots, found, whole.input_types, given, whole.scalar_dtypes,
                      whole.key())


def _keep(kept: dict[Any, Any], key: object, value: object) -> None:
    if len(kept) >= _MOST:
        del kept[next(iter(kept))]  # the oldest
    kept[key] = value

"""The functions of the standard, and calls of each that any implementation of it can make.

Arrays are named: a call is text, evaluated with a namespace `xp` and its arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent


class Call(NamedTuple):
    """A call of a function; `numpy` is what NumPy is asked instead."""

    text: str
    numpy: str


def signatures() -> dict[str, str]:
    """The parameters of each function by its name, those of the extension as `linalg.<name>`."""
    rows = (HERE / "signatures.txt").read_text(encoding="utf-8").splitlines()[1:]
    return {name: f"({parameters}" for name, _, parameters in (row.partition("(") for row in rows)}


def calls() -> dict[str, list[Call]]:
    """Calls by function."""
    found: dict[str, list[Call]] = {}
    for row in filter(None, (HERE / "calls.txt").read_text(encoding="utf-8").splitlines()[1:]):
        if row.startswith("["):
            found[row[1:-1]] = current = []
            continue
        text, _, numpy = (part.strip() for part in row.partition("  |  "))
        current.append(Call(text, numpy or text))
    return found


def evaluate(text: str, namespace: Any, make: Callable[[Any], Any]) -> Any:
    """The value of a call, its arrays made by `make` from those of NumPy."""
    values = {name: make(value) for name, value in arrays().items() if re.search(rf"\b{name}\b", text)}
    return eval(text, {"xp": namespace, "sorted": sorted, "float": float, "int": int, **values})


def arrays() -> dict[str, Any]:
    """The arrays that calls name, as NumPy has them."""
    random = np.random.default_rng(0)
    made: dict[str, Any] = {
        "i8": np.array([-128, -3, 0, 2, 127], np.int8),
        "j8": np.array([3, -2, 1, -5, 7], np.int8),
        "few": np.array([0, 1, 2, 3, 7], np.int8),
        "i16": np.array([[-7, 300], [0, 5]], np.int16),
        "ties": np.array([[3, 1, 2], [1, 1, 0]], np.int32),
        "i64": np.array([2**40, -1, 0, 5], np.int64),
        "t": np.arange(24).reshape(2, 3, 4),
        "u8": np.array([0, 3, 200, 255, 4], np.uint8),
        "v8": np.array([1, 2, 3, 4, 5], np.uint8),
        "u16": np.array([1, 60000], np.uint16),
        "u64": np.array([1, 2**63, 2**64 - 1], np.uint64),
        "b": np.array([True, False, True]),
        "c": np.array([[True], [False]]),
        "f32": np.array([-2.5, -0.5, -0.0, 0.5, 1.5, 2.0], np.float32),
        "g32": np.array([1.5, -2.0, 3.0, 0.25, -1.0, 2.0], np.float32),
        "unit": np.array([-0.75, -0.25, 0.0, 0.5, 0.875], np.float32),
        "above": np.array([1.0, 1.5, 10.0, 1e6], np.float32),
        "odd": np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0]),
        "same": np.array([3.0, 1.0, np.nan, 1.0, 0.0, np.nan, -0.0], np.float32),
        "f64": np.array([[0.5, -1.5, 3.0], [2.0, 8.0, -4.0]]),
        "single": np.array(2.5, np.float32),
        "none": np.zeros((0, 3), np.float32),
        "m": random.normal(size=(2, 3, 3)),
        "tall": random.normal(size=(4, 3)),
        "rhs": random.normal(size=(3, 2)),
        "v": random.normal(size=3),
        "w": random.normal(size=3),
        "sorted_": np.array([1.0, 2.0, 2.0, 5.0]),
        "places": np.array([2, 0, 1, 1]),
        "along": np.array([[0, 2], [1, 0]]),
    }
    return {**made, "spd": made["m"] @ made["m"].transpose(0, 2, 1) + 3 * np.eye(3)}

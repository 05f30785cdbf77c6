"""What a test needs a device to declare. Tests are selected by this and by nothing else."""
from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pluggrad.target import Capabilities

Names = str | Iterable[str]


@dataclass(frozen=True, slots=True)
class Requirement:
    """Names that a device must declare, and names that it must not. An empty one is met by every device."""

    dtypes: frozenset[str] = frozenset()
    arithmetic: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    ops: frozenset[str] = frozenset()
    without_dtypes: frozenset[str] = frozenset()
    without_features: frozenset[str] = frozenset()
    fork: bool = False
    local: bool = False
    matrix_units: frozenset[str] = frozenset()

    def missing(self, capabilities: Capabilities) -> str:
        """The first capability that keeps the test from being applicable; empty if it is applicable."""
        wanted = (("dtype", self.dtypes, capabilities.dtypes),
                  ("arithmetic in", self.arithmetic, capabilities.arithmetic),
                  ("feature", self.features, capabilities.features),
                  ("op", self.ops, capabilities.ops),
                  ("matrix unit for", self.matrix_units, {unit.inputs for unit in capabilities.matrix_units}))
        for what, needed, declared in wanted:
            if needed - declared:
                return f"{what} {min(needed - declared)}"
        for what, refused, declared in (("dtype", self.without_dtypes, capabilities.dtypes),
                                        ("feature", self.without_features, capabilities.features)):
            if refused & declared:
                return f"no {what} {min(refused & declared)}"
        if self.local and not capabilities.local_bytes:
            return "local_bytes"
        return "os.fork" if self.fork and not hasattr(os, "fork") else ""


ANY: Final = Requirement()


def requires(*, dtype: Names = (), arithmetic: Names = (), feature: Names = (), op: Names = (),
             without_dtype: Names = (), without_feature: Names = (), fork: bool = False,
             local: bool = False, matrix_unit: Names = ()) -> Requirement:
    """A requirement from one name or several each: `requires(dtype="float16", feature="graph")`.

    fork: of the system that the tests run on. local: memory of a task's own. matrix_unit: for products of
    that dtype.
    """
    return Requirement(_names(dtype), _names(arithmetic), _names(feature), _names(op),
                       _names(without_dtype), _names(without_feature), fork, local,
                       _names(matrix_unit))


def _names(value: Names) -> frozenset[str]:
    return frozenset([value] if isinstance(value, str) else value)

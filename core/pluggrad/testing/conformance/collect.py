"""Finding the tests: importing the modules of the packages `l0` to `l4` registers what they declare."""
from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Final

from pluggrad.testing.conformance.registry import LEVELS, TESTS, ConformanceTest

_PACKAGE: Final = __name__.rpartition(".")[0]


def collect() -> Mapping[str, ConformanceTest]:
    """Every test of the suite by id, by level."""
    for level in LEVELS:
        package = import_module(f"{_PACKAGE}.{level.lower()}")
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
            import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(TESTS.items(), key=lambda item: item[1].level))

"""Importing a plugin: no driver, no NumPy, no time. It happens to everybody who has the plugin installed."""
from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, files
from typing import Final

from pluggrad.target import DeviceId
from pluggrad.testing.conformance.fresh import in_fresh_process
from pluggrad.testing.conformance.measure import ImportCost, import_cost
from pluggrad.testing.conformance.mismatch import expect
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.subject import Subject

LIMIT_S: Final = 0.2
_TRIES: Final = 6  # on a busy machine the same work takes more processor time: the best one counts


def _cost(subject: Subject) -> ImportCost:
    return in_fresh_process(import_cost, DeviceId.parse(subject.name).type)


def _own_packages(subject: Subject) -> set[str]:
    """The top-level packages of the plugin's distribution."""
    own = {subject.entry.value.partition(":")[0].partition(".")[0]}
    try:
        listed = files(subject.entry.distribution) or []
    except PackageNotFoundError:
        return own
    return own | {path.parts[0].removesuffix(".py") for path in listed if path.suffix == ".py"}


@conformance("L0", "import/modules", blind=True,
             suggests="the plugin's module imports heavy modules at its top: import them in the functions "
                      "that need them")
def modules(subject: Subject) -> None:
    allowed = {*sys.stdlib_module_names, "pluggrad", "pluggy", *_own_packages(subject)}
    foreign = {name for name in _cost(subject).modules - allowed if not name.startswith("_sysconfigdata")}
    expect(not foreign, "importing the plugin and making its backend loads other packages",
           expected="the standard library, pluggrad and the plugin itself", got=", ".join(sorted(foreign)))


@conformance("L0", "import/libraries", blind=True,
             suggests="the plugin loads its driver when it is imported: load it in probe() or open()")
def libraries(subject: Subject) -> None:
    loaded = _cost(subject).libraries
    expect(not loaded, "importing the plugin and making its backend loads native libraries",
           expected="none", got=", ".join(loaded))


@conformance("L0", "import/time", blind=True,
             suggests="the plugin's module does work when it is imported: do it when it is needed")
def seconds(subject: Subject) -> None:
    best = float("inf")
    for _ in range(_TRIES):
        best = min(best, _cost(subject).cpu_seconds)
        if best < LIMIT_S:
            return
    expect(False, "importing the plugin and making its backend takes long",
           expected=f"below {LIMIT_S * 1e3:.0f} ms of processor time", got=f"{best * 1e3:.0f} ms")

"""How a conformance test is declared: its id, its cases, what it needs and what it covers."""
from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeVar

from pluggrad.testing.conformance.requirement import ANY, Requirement

SUITE_VERSION: Final = "1.0"  # a test that is new in a version is advisory until the next
FIRST_VERSION: Final = "1.0"

Level = Literal["L0", "L1", "L2", "L3", "L4"]
LEVELS: Final[Mapping[Level, str]] = {
    "L0": "contract", "L1": "kernels", "L2": "programs", "L3": "training", "L4": "optional features"}

Case = Mapping[str, Any]
Body = TypeVar("Body", bound=Callable[..., None])


class Point(NamedTuple):
    """One thing that has to be covered: an op, on a dtype, read from memory in a layout."""

    op: str
    dtype: str
    layout: str


@dataclass(frozen=True, slots=True)
class ConformanceTest:
    """One test: a function and the case that it is called with.

    suggests: what is probably wrong with a device that fails it. isolated: it runs in a process of its own,
    since it may spoil the device, or is about a process that has not opened one. blind: it needs nothing
    known about the device, so it runs even where the target cannot be asked for. batch: tests that name the
    same one share kernels; if those hang or crash, each test of it is run by itself to find the culprit.
    """

    id: str
    level: Level
    body: Callable[..., None] = field(repr=False)
    case: Case
    requires: Requirement
    covers: tuple[Point, ...]
    suggests: str
    since: str
    isolated: bool
    blind: bool
    limit_s: float | None
    batch: str = ""

    @property
    def advisory(self) -> bool:
        """New in this version of the suite: a failure is printed and does not count."""
        return self.since != FIRST_VERSION and self.since == SUITE_VERSION


TESTS: Final[dict[str, ConformanceTest]] = {}


def product(**parameters: Iterable[Any]) -> list[dict[str, Any]]:
    """Every combination of the parameters' values, the last varying fastest."""
    names = list(parameters)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*parameters.values())]


def conformance(level: Level, name: str = "", *, cases: Iterable[Case] = ({},),
                requires: Requirement | Callable[..., Requirement] = ANY,
                covers: Callable[..., Iterable[Point]] | None = None, suggests: str = "",
                since: str = FIRST_VERSION, isolated: bool = False, blind: bool = False,
                limit_s: float | None = None,
                batch: Callable[..., str] | None = None) -> Callable[[Body], Body]:
    """Declare a function of a `Subject` and the parameters of its cases as a test for each case.

    The id is level, name and the case's values, joined by "/": `L1/elementwise/ADD/float32/odd`. It is
    stable: reports and lists of expected failures keep it. name: the function's own, with hyphens, if empty.
    requires, covers: values, or functions of the case's parameters. Without `covers`, a case with parameters
    op, dtype and layout covers that point. suggests: text in which `{op}` stands for the parameter op; the
    function's docstring if empty. since: the suite's version that brought it. limit_s: its own time limit.
    batch: a function of the case's parameters; see `ConformanceTest`.

        @conformance("L1", "elementwise", cases=product(op=("ADD", "MUL"), dtype=FLOATS, layout=LAYOUTS),
                     requires=lambda op, dtype, layout: requires(dtype=dtype),
                     suggests="the renderer's {op} of {dtype} is wrong")
        def elementwise(subject: Subject, op: str, dtype: str, layout: str) -> None: ...
    """
    def declare(body: Body) -> Body:
        family = name or body.__name__.replace("_", "-")
        for case in cases:
            id = "/".join([level, family, *(str(value) for value in case.values())])
            if id in TESTS:
                raise ValueError(f"two conformance tests are called {id}")
            needed = requires(**case) if callable(requires) else requires
            covered = tuple(covers(**case)) if covers is not None else _point(case)
            hint = suggests.format(**case) if suggests else inspect.cleandoc(body.__doc__ or "")
            TESTS[id] = ConformanceTest(id, level, body, case, needed, covered, hint, since, isolated, blind,
                                        limit_s, "" if batch is None else f"{level}/{family}/{batch(**case)}")
        return body
    return declare


def _point(case: Case) -> tuple[Point, ...]:
    return (Point(case["op"], case["dtype"], case["layout"]),) if case.keys() >= set(Point._fields) else ()

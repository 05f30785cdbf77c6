"""The text of every stage, for a few expressions, against tests/golden/<stage>/."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from pluggrad.cli.stages import Stages
from pluggrad.graph.text import graph_text
from pluggrad.kernel.text import kernel_text
from pluggrad.lower.text import program_text
from pluggrad.plan.text import plan_text
from pluggrad.schedule.text import schedule_text
from tests.golden.expressions import EXPRESSIONS, Expression, stages

TEXTS: dict[str, Callable[[Stages], str]] = {
    "graph": lambda made: graph_text(made.graph),
    "schedule": lambda made: schedule_text(made.regions),
    "kernel": lambda made: "\n".join(kernel_text(each.kernel) for each in made.built),
    "tune": lambda made: "\n".join(kernel_text(p.kernel) for each in made.tuned for p in each.phases),
    "plan": lambda made: plan_text(made.plan),
    "lower": lambda made: "\n\n".join(map(program_text, made.programs)),
}


@pytest.mark.parametrize("make", EXPRESSIONS, ids=lambda make: make.__name__)
def test_text(make: Callable[[], Expression], golden: Callable[..., None]) -> None:
    made = stages(make())
    for stage, text in TEXTS.items():
        golden(text(made), stage=stage)

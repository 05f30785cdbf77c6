"""docs/kernel-language.md is what the op set says, and the op set keeps the rule of its versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pluggrad import cli
from pluggrad.device.versions import API_MINOR
from pluggrad.graph.ops import ELEMENTWISE
from pluggrad.lower.arithmetic import DECOMPOSED
from pluggrad.lower.instructions import ARITHMETIC, INSTRUCTIONS, STRUCTURE

PAGE = Path(__file__).parents[3] / "docs" / "kernel-language.md"
COMMAND = "python -m pluggrad kernel-language > docs/kernel-language.md"


def test_the_page_is_what_the_command_prints(capsys):
    assert cli.main(["kernel-language"]) == 0
    assert PAGE.read_text(encoding="utf-8") == capsys.readouterr().out, f"out of date: {COMMAND}"


def test_every_instruction_stands_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in INSTRUCTIONS if f"\n| {name} | " not in text] == []


def test_a_renderer_meets_every_elementwise_op_but_those_that_are_always_rewritten():
    missing = {op.name for op in ELEMENTWISE} - INSTRUCTIONS.keys()
    assert missing == {"IDIV", "MOD", "POW"}
    assert len(INSTRUCTIONS) == len(STRUCTURE) + len(ARITHMETIC)


def test_optional_instructions_are_those_that_lower_can_write_in_others():
    assert {row.name for row in ARITHMETIC if row.optional} == {op.name for op in DECOMPOSED}
    assert not any(row.optional for row in STRUCTURE)


@pytest.mark.parametrize("row", ARITHMETIC, ids=lambda row: row.name)
def test_arithmetic_that_came_later_is_optional(row):
    assert row.optional or row.since == 0, "older renderers would receive it and do not know it"


@pytest.mark.parametrize("row", INSTRUCTIONS.values(), ids=lambda row: row.name)
def test_no_instruction_comes_from_the_future(row):
    assert 0 <= row.since <= API_MINOR
    assert row.meaning
    assert row.sources

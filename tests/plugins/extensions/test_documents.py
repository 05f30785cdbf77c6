"""docs/extending.md shows the examples as they are."""
from __future__ import annotations

import re

import pytest

from tests.plugins.extensions.conftest import SOURCES

PAGE = (SOURCES.parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(?:python|toml)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
FILES = [path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.*") if path.suffix in (".py", ".toml")]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1].strip()[:40])
def test_every_block_is_in_an_example(block):
    assert any(block in text for text in FILES)


def test_every_example_is_on_the_page():
    names = [path.parent.name for path in SOURCES.glob("*/pyproject.toml")]
    assert len(names) == 4
    assert [name for name in names if f"`examples/extensions/{name}/`" not in PAGE] == []

"""Programs in the style of other libraries' guides run here with their import changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pluggrad import Tensor

pytestmark = pytest.mark.usefixtures("device")

SNIPPET = re.compile(r"^## (.+?)\n```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SNIPPETS = {
    f"{page.stem}: {name}": program
    for page in sorted(Path(__file__).parent.glob("*.md"))
    for name, program in SNIPPET.findall(page.read_text(encoding="utf-8"))
}


def test_the_list_is_long():
    assert len(SNIPPETS) >= 60
    assert [name for name, program in SNIPPETS.items() if "assert " not in program] == []


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippet(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = Tensor.training
    Tensor.manual_seed(0)
    exec(compile(SNIPPETS[name], name, "exec"), {"__name__": "snippet"})
    assert Tensor.training == training

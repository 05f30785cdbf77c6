"""Folders are stages and are named after them."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source import CORE, PLUGINS, core_sources, plugin_sources

NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "tools"}


@pytest.mark.parametrize("root", [CORE, PLUGINS], ids=["core", "plugins"])
def test_no_folder_for_leftovers(root):
    names = [path for path in root.rglob("*") if path.suffix in ("", ".py") and path.stem in NAMELESS]
    assert names == []


def test_every_module_says_what_it_is():
    sources = [*core_sources(), *plugin_sources()]
    assert [s.path for s in sources if s.tree.body and ast.get_docstring(s.tree) is None] == []

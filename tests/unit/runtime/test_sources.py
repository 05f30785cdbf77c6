"""An edited file of a compiler is found by the keys of the cache, and nothing else is."""

from __future__ import annotations

import importlib
import sys

import pytest

from pluggrad.runtime.sources import stamp

MAKER = "class Maker: pass\n"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """An instance of the class `Maker` of a module, after its files were written."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(module: str, *files: str) -> object:
        for name in files:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(MAKER, encoding="utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(module).Maker()

    yield make
    for name in [name for name in sys.modules if name.startswith("edited")]:
        del sys.modules[name]


@pytest.fixture
def maker(make):
    """Of a package whose toolchain lies in a folder of its own."""
    return make("edited.compiler.toolchain", "edited/compiler/toolchain.py", "edited/render.py")


@pytest.mark.parametrize("edited", ["compiler/toolchain.py", "render.py", "kernels/rows.cuh"])
def test_what_a_package_ships_counts(maker, tmp_path, edited):
    before = stamp(maker)
    assert before == stamp(maker)
    path = tmp_path / "edited" / edited
    path.parent.mkdir(exist_ok=True)
    path.write_text("# another text", encoding="utf-8")
    assert stamp(maker) != before


@pytest.mark.parametrize("beside", ["edited/__pycache__/render.pyc", "edited/.render.py.swp", "other.py"])
def test_what_no_compiler_is_made_of_does_not_count(maker, tmp_path, beside):
    before = stamp(maker)
    path = tmp_path / beside
    path.parent.mkdir(exist_ok=True)
    path.write_text("bytes", encoding="utf-8")
    assert stamp(maker) == before


def test_a_module_in_no_package_counts_by_itself(make, tmp_path):
    maker = make("edited_alone", "edited_alone.py")
    before = stamp(maker)
    (tmp_path / "neighbor.py").write_text("", encoding="utf-8")
    assert stamp(maker) == before
    (tmp_path / "edited_alone.py").write_text(MAKER * 2, encoding="utf-8")
    assert stamp(maker) != before


def test_a_class_that_was_typed_in_has_no_files():
    typed = type("Maker", (), {"__module__": "nowhere"})
    assert stamp(typed()) == stamp()

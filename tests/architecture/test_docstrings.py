"""Every public name has a docstring, and so has every public method."""

from __future__ import annotations

import importlib
import inspect
import types

import pytest

PUBLIC_MODULES = [
    "pluggrad",
    "pluggrad.data",
    "pluggrad.dtypes",
    "pluggrad.errors",
    "pluggrad.nn",
    "pluggrad.nn.optim",
    "pluggrad.nn.state",
    "pluggrad.plugin_api",
    "pluggrad.testing",
]


def undocumented(module: types.ModuleType) -> list[str]:
    """Public names, and public attributes of the classes among them, that say nothing of themselves."""
    missing = []
    for name in public_names(module):
        value = getattr(module, name)
        if isinstance(value, types.ModuleType | types.FunctionType | type) and not _described(value):
            missing.append(f"{module.__name__}.{name}")
        if isinstance(value, type):
            missing += [f"{module.__name__}.{name}.{part}" for part in _silent_attributes(value)]
    return missing


def public_names(module: types.ModuleType) -> list[str]:
    """`__all__`, or where there is none, what the module defines itself without an underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = (n for n, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return [name for name in own if not name.startswith("_")]


def _described(value: object) -> bool:
    text = getattr(value, "__doc__", None) if isinstance(value, type) else inspect.getdoc(value)
    generated = isinstance(value, type) and text is not None and text.startswith(f"{value.__name__}(")
    return bool(text and text.strip()) and not generated


def _silent_attributes(cls: type) -> list[str]:
    silent = []
    for part in dir(cls):
        value = inspect.getattr_static(cls, part)
        if part.startswith("_") or not isinstance(
            value, types.FunctionType | property | classmethod | staticmethod
        ):
            continue
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        ours = (getattr(function, "__module__", "") or "").partition(".")[0]
        if ours in ("pluggrad", __name__.partition(".")[0]) and not inspect.getdoc(getattr(cls, part)):
            silent.append(part)
    return silent


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_public_names_are_documented(name):
    assert undocumented(importlib.import_module(name)) == []


def test_the_package_lists_its_names():
    assert importlib.import_module("pluggrad").__all__


def test_a_missing_docstring_is_found():
    def silent(): ...

    class Half:
        """Says something."""

        def method(self): ...

        @property
        def size(self): ...

        @classmethod
        def make(cls): ...

    module = types.ModuleType("sample")
    vars(module).update(__all__=["silent", "Half", "number"], silent=silent, Half=Half, number=3)
    silent_parts = [f"sample.Half.{part}" for part in ("make", "method", "size")]
    assert undocumented(module) == ["sample.silent", *silent_parts]

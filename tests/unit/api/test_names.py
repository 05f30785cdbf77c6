"""Nothing that the pages promise is missing, signatures are tinygrad's, and every method has its row."""

from __future__ import annotations

import importlib
import inspect
import json
import tomllib
from pathlib import Path

import pytest

import pluggrad
from pluggrad import Tensor, dtypes
from tests.unit.api import test_plain
from tests.unit.api.table import ROWS

HERE = Path(__file__).parent
PUBLIC = tomllib.loads((HERE / "public_names.toml").read_text())
PEER = [row for row in json.loads((HERE / "tensor_names.json").read_text())["rows"] if row["ours"] == "have"]
METHODS = sorted(
    {name for names in PUBLIC["tensor"].values() for name in names.split()} | {row["name"] for row in PEER}
)

# where the peer passes keywords on, ours are named; where its default is a constant, ours may be set
OTHERWISE = {
    "**kwargs": "keywords by name",
    "dtype=dtypes.int": "dtype=None",
}


@pytest.mark.parametrize("name", PUBLIC["top"].split())
def test_top_level(name):
    assert hasattr(pluggrad, name)


@pytest.mark.parametrize("module", PUBLIC["modules"])
def test_modules(module):
    found = importlib.import_module(module)
    assert [name for name in PUBLIC["modules"][module].split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("name", METHODS)
def test_method_is_there(name):
    assert hasattr(Tensor, name)


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row["name"]) for row in PEER if row["kind"] != "property"]
)
def test_signature(row):
    """The peer's parameters come first, in its order and with its defaults; more may follow."""
    found = list(inspect.signature(getattr(Tensor, row["name"])).parameters.values())
    if row["kind"] == "static" and found and found[0].name == "cls":
        found = found[1:]
    positional = [p for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = {p.name: p for p in found}
    expected = [text for text in row["parameters"] if text not in OTHERWISE]
    stars = [text for text in expected if text.startswith("*")]
    for star in stars:
        kind = inspect.Parameter.VAR_KEYWORD if star.startswith("**") else inspect.Parameter.VAR_POSITIONAL
        assert any(p.kind is kind for p in found)
    after_star = [text for text in expected[expected.index(stars[0]) :] if text not in stars] if stars else []
    in_order = [text for text in expected if text not in stars and text not in after_star]
    for text, parameter in zip(in_order, positional, strict=False):
        agrees(text, parameter)
    assert len(positional) >= len(in_order)
    for text in after_star:
        agrees(text, keywords[text.partition("=")[0]])
    for extra in positional[len(in_order) :]:
        assert extra.default is not extra.empty, f"{extra} follows the peer's parameters without a default"


def agrees(text: str, parameter: inspect.Parameter) -> None:
    """The peer's text of a parameter; where it has no default, ours may have one."""
    name, equals, default = text.partition("=")
    assert parameter.name == name
    if equals:
        assert parameter.default == eval(default, {"dtypes": dtypes})


def test_every_method_has_its_test():
    """A row of the table, or a test of its own in test_plain.py; operators are of the methods beside them."""
    of_rows = {row.name for row in ROWS}
    own = {name.removeprefix("test_") for name in vars(test_plain) if name.startswith("test_")}
    own |= {"full_like", "zeros_like", "ones_like", "dtype", "shape", "device", "ndim", "is_param_"}
    operators = {name for name in METHODS if name.startswith("__")}
    assert sorted(set(METHODS) - of_rows - own - operators) == []

"""Each example builds as pip would build it, whole and with its entry point."""
from __future__ import annotations

import tomllib
import zipfile

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.plugins.extensions.conftest import SOURCES

PROJECTS = sorted(path.parent for path in SOURCES.glob("*/pyproject.toml"))


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_a_wheel_holds_every_module_and_the_entry_point(project, tmp_path):
    data = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    built = WheelBuilder(str(project)).build(directory=str(tmp_path), versions=["standard"])
    wheel = zipfile.ZipFile(next(built))
    packed = set(wheel.namelist())
    modules = {path.relative_to(project).as_posix() for path in project.rglob("*.py")}
    assert modules <= packed
    ((group, points),) = data["entry-points"].items()
    (name, module), = points.items()
    written = next(wheel.read(path).decode() for path in packed if path.endswith("entry_points.txt"))
    assert written.split("\n")[:2] == [f"[{group}]", f"{name} = {module}"]
    assert any(path in modules for path in (f"{module.replace('.', '/')}.py", f"{module}/__init__.py"))

"""The distributions agree with each other, and a wheel holds everything its package needs."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import pytest

import pluggrad
from pluggrad import version
from tests.architecture.source import ROOT, plugin_packages, plugin_projects

GROUP = "pluggrad.devices.v1"


def read(path: Path) -> dict:
    return tomllib.loads(path.read_text(encoding="utf-8"))


CORE_PROJECT = read(ROOT / "pyproject.toml")
PROJECTS = [ROOT / "pyproject.toml", *plugin_projects()]


def requirement_names(requirements: list[str]) -> set[str]:
    return {requirement.split(">")[0].split("~")[0].split("=")[0].strip() for requirement in requirements}


def test_core_depends_on_numpy_and_pluggy_only():
    assert requirement_names(CORE_PROJECT["project"]["dependencies"]) == {"numpy", "pluggy"}


@pytest.mark.parametrize("path", plugin_projects(), ids=lambda path: path.parent.name)
def test_plugins_move_in_lockstep_with_the_core(path):
    project, core = read(path)["project"], CORE_PROJECT["project"]
    minor = core["version"].rpartition(".")[0]
    assert project["name"] == f"pluggrad-{path.parent.name}"
    assert project["version"] == core["version"]
    assert project["requires-python"] == core["requires-python"]
    assert f"pluggrad~={minor}.0" in project["dependencies"]
    assert (path.parent / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("path", plugin_projects(), ids=lambda path: path.parent.name)
def test_a_plugin_registers_its_device_in_the_group_of_this_major(path):
    device = path.parent.name
    assert read(path)["project"]["entry-points"] == {GROUP: {device: f"pluggrad_{device}.plugin"}}


def test_tools_look_at_every_plugin():
    packages = {package.name for package in plugin_packages()}
    tools = CORE_PROJECT["tool"]
    contracts = {contract["id"]: contract for contract in tools["importlinter"]["contracts"]}
    assert packages <= set(tools["importlinter"]["root_packages"])
    assert packages <= set(contracts["plugin-door"]["source_modules"])
    assert packages <= set(contracts["no-driver"]["forbidden_modules"])
    assert packages <= set(contracts["acyclic"]["ancestors"])
    assert packages <= {Path(file).name for file in tools["mypy"]["files"]}
    installed = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    assert next(line for line in installed if line.startswith("-e")).startswith("-e ."), "core comes first"
    assert {f"-e {path.parent.relative_to(ROOT).as_posix()}" for path in plugin_projects()} <= set(installed)


def test_version_is_the_distribution_version():
    assert version.__version__ == pluggrad.__version__ == CORE_PROJECT["project"]["version"]


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_a_wheel_holds_every_file_of_its_package(path, tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    wheel = next(WheelBuilder(str(path.parent)).build(directory=str(tmp_path), versions=["standard"]))
    packed = set(zipfile.ZipFile(wheel).namelist())
    for package in read(path)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        folder = path.parent / package
        files = {
            (Path(folder.name) / file.relative_to(folder)).as_posix()
            for file in folder.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        assert f"{folder.name}/py.typed" in packed
        assert files <= packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)

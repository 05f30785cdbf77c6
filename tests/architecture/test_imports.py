"""Imports point one way.

The layers are `[tool.importlinter]` in pyproject.toml; what import-linter cannot see is checked here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.architecture.source import (
    CORE,
    ROOT,
    Source,
    core_sources,
    imports,
    libraries,
    parse,
    plugin_packages,
    plugin_sources,
)

EVERYWHERE = {"numpy", "pluggy"}
# Optional packages, by stage: they may be missing, so they are imported where they are used.
OPTIONAL = {
    "cli": {"tqdm"},
    "data": {"PIL", "tqdm"},
    "io": {"safetensors"},
    "runtime": {"tqdm"},
    "testing": {"pytest", "hypothesis"},
}
# Libraries of the operating system itself; anything else is a driver.
SYSTEM_LIBRARIES = {"kernel32"}
# Entry points into the whole package: only these may import through `pluggrad` itself.
FRONTS = {"__main__", "cli", "testing"}


# -------------------------------------------------------------------------------- rules


def foreign_imports(sources: Iterable[Source]) -> list[str]:
    """Core imports only the standard library, NumPy, pluggy and, on demand, the optional packages above."""
    found = []
    for source in sources:
        optional = OPTIONAL.get(source.package, set())
        for imported in imports(source):
            top = imported.module.partition(".")[0]
            if top == "pluggrad" or top in EVERYWHERE or top in sys.stdlib_module_names:
                continue
            if top not in optional:
                found.append(f"{source.path}:{imported.line} imports {imported.module}")
            elif imported.at_import_time and top != "pytest":
                found.append(f"{source.path}:{imported.line} imports {imported.module}, which may be missing")
    return found


def loaded_libraries(sources: Iterable[Source]) -> list[str]:
    """Core loads no driver: that is a plugin's work."""
    return [
        f"{source.path}:{line} loads {library}"
        for source in sources
        for library, line in libraries(source)
        if library not in SYSTEM_LIBRARIES
    ]


def imports_through_root(sources: Iterable[Source]) -> list[str]:
    """A stage names the module it imports from: `from pluggrad import Tensor` would hide the direction."""
    found = []
    for source in sources:
        if source.package in FRONTS:
            continue
        for imported in imports(source):
            names = imported.names if imported.module == "pluggrad" else ()
            hidden = [name for name in names if not _is_stage(name) and name != "__version__"]
            if hidden or (imported.module == "pluggrad" and not names):
                found.append(f"{source.path}:{imported.line} imports through the root: {', '.join(hidden)}")
    return found


def _is_stage(name: str) -> bool:
    return (CORE / name).is_dir() or (CORE / f"{name}.py").is_file()


def beside_the_door(sources: Iterable[Source]) -> list[str]:
    """Plugins import `pluggrad.plugin_api` and nothing else of the core."""
    found = []
    for source in sources:
        for imported in imports(source):
            parts = imported.module.split(".")
            through_door = parts[:2] == ["pluggrad", "plugin_api"] or (
                imported.module == "pluggrad" and imported.names == ("plugin_api",)
            )
            if parts[0] == "pluggrad" and not through_door:
                found.append(f"{source.path}:{imported.line} imports {imported.module}")
    return found


# -------------------------------------------------------------------------------- the tree keeps them


def test_core_imports_no_plugin_no_driver_and_nothing_unlisted():
    assert foreign_imports(core_sources()) == []


def test_core_loads_no_driver_library():
    assert loaded_libraries(core_sources()) == []


def test_stages_do_not_import_through_the_root():
    assert imports_through_root(core_sources()) == []


def test_plugins_use_the_door_only():
    assert beside_the_door(plugin_sources()) == []


# -------------------------------------------------------------------------------- the rules can fail


@pytest.mark.parametrize(
    "text",
    [
        "import llvmlite",
        "def probe():\n    from llvmlite import binding",
        "import importlib\ndef probe():\n    return importlib.import_module('pyopencl')",
        "import pluggrad_cpu.plugin",
        "from pluggrad_cpu import plugin",
        "import tqdm",
    ],
)
def test_a_foreign_import_is_found(text):
    assert len(foreign_imports([parse("graph/node.py", text)])) == 1


def test_an_optional_import_is_made_on_demand():
    assert foreign_imports([parse("data/mnist.py", "def bar():\n    import tqdm.auto")]) == []
    assert len(foreign_imports([parse("data/mnist.py", "import tqdm.auto")])) == 1


def test_a_driver_library_is_found():
    text = "import ctypes\ndef probe():\n    return ctypes.CDLL('libcuda.so.1')"
    assert loaded_libraries([parse("device/open.py", text)]) == ["device/open.py:3 loads libcuda.so.1"]


@pytest.mark.parametrize("text", ["import pluggrad", "from pluggrad import Tensor"])
def test_an_import_through_the_root_is_found(text):
    assert len(imports_through_root([parse("nn/linear.py", text)])) == 1
    assert imports_through_root([parse("cli/explain.py", text)]) == []


@pytest.mark.parametrize(
    "text", ["import pluggrad", "from pluggrad import ir", "def f():\n    import pluggrad.ir.node"]
)
def test_a_plugin_beside_the_door_is_found(text):
    assert len(beside_the_door([parse("compiler.py", text)])) == 1


@pytest.mark.parametrize("text", ["import pluggrad.plugin_api", "from pluggrad.plugin_api import Backend"])
def test_the_door_is_open(text):
    assert beside_the_door([parse("compiler.py", text)]) == []


# -------------------------------------------------------------------------------- the contracts


def lint_imports(folder: Path, *roots: Path) -> subprocess.CompletedProcess[str]:
    entry = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", entry, "--no-cache"]
    path = os.pathsep.join(str(root) for root in roots)
    environment = {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_import_contracts_hold():
    result = lint_imports(ROOT, CORE.parent, *(p.parent for p in plugin_packages()))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("pluggrad/dtypes.py", "import pluggrad.tensor", "pluggrad.dtypes -> pluggrad.tensor"),
        ("pluggrad/dtypes.py", "def f():\n    import pluggrad.tensor", "pluggrad.dtypes -> pluggrad.tensor"),
        ("pluggrad/autograd.py", "import pluggrad.schedule", "pluggrad.autograd -> pluggrad.schedule"),
        ("pluggrad/stray.py", "", "pluggrad.stray"),
        ("pluggrad/graph/a.py", "import pluggrad.graph.b", "No cycles are allowed"),
        ("pluggrad/dtypes.py", "import llvmlite", "pluggrad is not allowed to import llvmlite"),
        ("pluggrad_cpu/plugin.py", "import pluggrad.tensor", "pluggrad_cpu.plugin -> pluggrad.tensor"),
    ],
)
def test_import_contracts_can_fail(tmp_path, file, text, complaint):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    modules = ["__init__", "tensor", "schedule", "dtypes", "graph/__init__", "graph/a", "graph/b"]
    plugins = [f"{package.name}/__init__.py" for package in plugin_packages()]
    for module in [*(f"pluggrad/{m}.py" for m in modules), *plugins]:
        (tmp_path / module).parent.mkdir(exist_ok=True)
        (tmp_path / module).touch()
    (tmp_path / "pluggrad/graph/b.py").write_text("import pluggrad.graph.a\n")
    assert lint_imports(tmp_path, tmp_path).returncode == 0
    (tmp_path / file).write_text(text + "\n")
    result = lint_imports(tmp_path, tmp_path)
    assert result.returncode == 1
    assert complaint in result.stdout

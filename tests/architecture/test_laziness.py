"""What an import must not load. Each check runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.source import plugin_packages

DRIVERS = {"llvmlite", "pyopencl", "pycuda", "cuda", "cupy", "objc", "Metal"}


def loaded_by(module: str) -> set[str]:
    """Top-level packages in `sys.modules` after a fresh process imported `module`."""
    code = f"import {module}, sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_import_pluggrad_loads_no_device_and_no_numpy():
    loaded = loaded_by("pluggrad")
    plugins = {package.name for package in plugin_packages()}
    assert loaded & (DRIVERS | plugins | {"numpy", "tqdm", "matplotlib"}) == set()


def test_plugin_api_loads_no_numpy():
    assert loaded_by("pluggrad.plugin_api") & (DRIVERS | {"numpy"}) == set()


@pytest.mark.parametrize("package", plugin_packages(), ids=lambda package: package.name)
def test_a_plugin_module_loads_no_driver_and_no_numpy(package):
    assert loaded_by(f"{package.name}.plugin") & (DRIVERS | {"numpy"}) == set()


# what a process that finds its plans on disk never needs, and what of Python itself takes long to load
COMPILER = {"pluggrad.schedule", "pluggrad.tune", "pluggrad.lower", "pluggrad.render", "pluggrad.plan.build"}
SLOW = {"hashlib", "logging", "pathlib", "random", "shutil", "tempfile", "zipfile"}


def test_names_load_no_compiler_and_little_of_the_standard_library():
    code = """
import numpy, sys
before = set(sys.modules)
from pluggrad import Tensor, jit, nn
print(*sorted(set(sys.modules) - before))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) & (COMPILER | SLOW) == set()


def test_a_load_is_seen():
    assert "numpy" in loaded_by("numpy.linalg")

"""docs/writing-a-device.md: its listings are what `new-device` writes, and its blocks run in order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from pluggrad import cli, plugin_api
from pluggrad.cli.new_device import files
from tests.fake_plugins.install import write_metadata

PAGE = Path(__file__).parents[3] / "docs" / "writing-a-device.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:^`(?P<file>[\w./]+)`[^\n]*:\n\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```",
                   re.DOTALL | re.MULTILINE)
LISTINGS = {block["file"]: block["code"] for block in BLOCK.finditer(TEXT) if block["file"]}
STEPS = [block["code"] for block in BLOCK.finditer(TEXT)
         if block["language"] == "python" and not block["file"]]
PROMISED = re.compile(r"print\(.*\)\s+# (.+)$", re.MULTILINE)
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: cc")


def test_the_listings_are_the_generated_files():
    written = {"/".join(path): text for path, text in files("acme")}
    assert set(LISTINGS) == {"pluggrad_acme/plugin.py", "pluggrad_acme/device.py", "pyproject.toml"}
    assert {name: written[name] for name in LISTINGS} == LISTINGS


@pytest.fixture
def acme(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has the generated device."""
    project = tmp_path / "pluggrad-acme"
    assert cli.main(["new-device", "acme", "--folder", str(project)]) == 0
    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    write_metadata(project, described["name"], described["version"], described["entry-points"])
    return {**os.environ, "PYTHONPATH": str(project)}


@needs_compiler
def test_the_steps_run_in_order_and_print_what_they_promise(acme, tmp_path):
    program = "\n".join(STEPS)
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], env=acme, cwd=tmp_path,
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    promised = PROMISED.findall(program)
    assert len(promised) >= 3
    assert [line for line in promised if line not in result.stdout.splitlines()] == []


# the generated plugin, with the devices of the page as its variants
VARIANTS = """

class PageBackend(AcmeBackend):
    variants = ("graph", "queue", "vectors")

    def target(self, index, variant):
        from pluggrad_acme.page import replace, target, vectors

        added = {"graph": {"graph"}, "queue": {"async"}}.get(variant, set())
        made = vectors if variant == "vectors" else target
        return replace(made, capabilities=replace(
            made.capabilities, features=made.capabilities.features | added))

    def toolchain(self, target):
        from pluggrad_acme.page import AcmeToolchain, VectorToolchain

        return (VectorToolchain if target.capabilities.vector_bytes else AcmeToolchain)(target)

    def open(self, index, variant):
        from pluggrad_acme import page

        kinds = {"graph": page.GraphDevice, "queue": page.QueueDevice}
        return kinds.get(variant, page.AcmeDevice)(self.target(index, variant))


@hookimpl
def pluggrad_backend(api):
    return PageBackend()
"""


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["graph", "queue", "vectors"])
def test_the_devices_of_the_page_keep_the_contract(acme, tmp_path, variant):
    package = tmp_path / "pluggrad-acme" / "pluggrad_acme"
    steps = [step for step in STEPS if 'device="acme"' not in step]
    (package / "page.py").write_text("\n".join(steps).replace("print(", "str("))
    with (package / "plugin.py").open("a") as plugin:
        plugin.write(VARIANTS)
    command = [sys.executable, "-m", "pluggrad", "conformance", f"acme@{variant}", "--level", "L0,L4"]
    command += ["--every", "5"]  # each test starts the compiler
    command += ["--time-limit", "120"]  # for a machine that does other things, too
    result = subprocess.run(command, env=acme, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_page_names_every_capability_and_every_feature():
    table = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| .*$", TEXT, re.MULTILINE))))
    assert {field.name for field in fields(plugin_api.Capabilities)} <= table
    assert set(plugin_api.FEATURES) <= table


def test_what_the_page_imports_from_the_plugin_api_is_public():
    for block in STEPS:
        for module in re.findall(r"^from (pluggrad\S*) import", block, re.MULTILINE):
            assert module in ("pluggrad", "pluggrad.plugin_api", "pluggrad_acme.plugin")

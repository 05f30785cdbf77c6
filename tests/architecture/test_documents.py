"""Documents that rot are worse than none: links lead somewhere, and the examples in them run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pluggrad import cli, config, nn
from pluggrad.cli.new_device import files as generated_files
from pluggrad_cpu import settings as cpu
from pluggrad_cuda import settings as cuda
from pluggrad_metal import settings as metal
from pluggrad_opencl import settings as opencl
from tests.architecture.source import CORE, ROOT

# where a path in a document may start: the repository, the core, and stages, whose files are named alone
PLACES = [ROOT, ROOT / "examples", CORE, *filter(Path.is_dir, CORE.iterdir()), *ROOT.glob("plugins/*/*")]
PLUGIN_SETTINGS = (cpu.THREADS, cpu.TEAM, cpu.TARGET, opencl.SCHEDULE, opencl.MEMORY_MB,
                   cuda.MEMORY_MB, metal.MEMORY_MB)

GENERATED = {"/".join(path) for path, _ in generated_files("acme")}  # pages speak of them
STEP_BY_STEP = {"writing-a-device.md"}  # its blocks make one program: tests/plugins/new_device runs it
PARTS = {"extending.md"}  # its blocks are parts of examples/extensions, which tests/plugins/extensions runs

FOLDERS = ("*.md", "docs/**/*.md", "plugins/*/*.md", "examples/*.md", ".github/**/*.md", ".github/**/*.yml")
DOCUMENTS = sorted(path for pattern in FOLDERS for path in ROOT.glob(pattern))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    links = LINK.findall(document.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_documents_name_exists(document):
    text = document.read_text(encoding="utf-8")
    declared = {setting.variable for setting in (*config.settings(), *PLUGIN_SETTINGS)}
    variables = set(re.findall(r"\bPLUGGRAD_(?!TEST_)\w+", text))
    assert sorted(variables - declared) == []
    assert set(re.findall(r"python -m pluggrad ([\w-]+)", text)) <= set(cli.COMMANDS)
    paths = re.findall(r"`([\w./-]+(?:/|\.py|\.toml))`", text)
    missing = [path for path in paths if not any(place.joinpath(path).exists() for place in PLACES)]
    assert [path for path in missing if path not in GENERATED] == []


@pytest.mark.parametrize("package", sorted(ROOT.glob("plugins/*/pluggrad_*")), ids=lambda path: path.name)
def test_a_plugin_s_readme_says_what_each_file_holds(package):
    text = (package.parent / "README.md").read_text(encoding="utf-8")
    files = [path.name for suffix in ("*.py", "*.ll") for path in package.glob(suffix)]
    assert [name for name in sorted(files) if name != "__init__.py" and f"`{name}`" not in text] == []


def documented_examples() -> list[str]:
    """The programs of the documents, each with the import line of the first; plugin code is not one."""
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("plugins/*/README.md"))]
    texts = [page.read_text(encoding="utf-8") for page in pages if page.name not in STEP_BY_STEP | PARTS]
    blocks = [block for text in texts for block in PYTHON_BLOCK.findall(text)]
    programs = [block for block in blocks if "plugin_api" not in block]
    return [p if "import" in p else f"from pluggrad import Tensor\n{p}" for p in programs]


@pytest.mark.parametrize("program", documented_examples(), ids=lambda program: program.splitlines()[-1][:30])
def test_the_examples_run(tmp_path, program):
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    promised = re.findall(r"print\(.*\)\s+# ((?:\[|\(|Tensor\().*)$", program, re.MULTILINE)
    assert [line for line in promised if line not in result.stdout] == []


def test_the_page_about_networks_names_every_layer():
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    layers = [name for name in nn.__all__ if isinstance(getattr(nn, name), type)]
    assert [name for name in layers if not re.search(rf"`[^`]*\b{name}\b[^`]*`", text)] == []


def test_the_page_about_architecture_names_every_stage_and_every_folder_of_tests():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    stages = [path.parent.name for path in CORE.glob("*/__init__.py")]
    order = re.findall(r"\w+", re.search(r"^cli >.*?^```", text, re.DOTALL | re.MULTILINE)[0])
    assert [name for name in stages if name not in order or not re.search(rf"\b{name}/", text)] == []
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in ROOT.glob("tests/*/**/test_*.py")}
    assert [name for name in sorted(folders) if f"| `tests/{name}" not in text] == []

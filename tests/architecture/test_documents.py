"""Documents that rot are worse than none: links lead somewhere, and the README's examples run."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.architecture.source import CORE, ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    links = LINK.findall(document.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert [link for link in local if not (document.parent / link).exists()] == []


def readme_examples() -> list[str]:
    """The README's programs, each with the import line of the first; plugin code is not one."""
    blocks = PYTHON_BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    programs = [block for block in blocks if "plugin_api" not in block]
    return [p if "import" in p else f"from pluggrad import Tensor\n{p}" for p in programs]


@pytest.mark.parametrize("program", readme_examples(), ids=lambda program: program.splitlines()[-1][:30])
def test_the_examples_of_the_readme_run(program):
    files = (CORE / "tensor").glob("*.py")
    if not any("\nclass Tensor" in file.read_text(encoding="utf-8") for file in files):
        pytest.skip("Tensor is not written yet")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    promised = re.findall(r"print\(.*\)\s+# (\[.*\])$", program, re.MULTILINE)
    assert [line for line in promised if line not in result.stdout] == []

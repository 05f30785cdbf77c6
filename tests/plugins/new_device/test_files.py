"""What `python -m pluggrad new-device` writes, and the names it refuses. Nothing is installed here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pluggrad import cli
from pluggrad.cli.new_device import files
from pluggrad.device.names import known_devices

MAX_PLUGIN_LINES = 120


def written(name: str) -> dict[str, str]:
    return {"/".join(path): text for path, text in files(name)}


def test_the_files_of_a_distribution_are_written_where_they_are_wanted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new-device", "acme"]) == 0
    found = {path.relative_to("pluggrad-acme").as_posix() for path in Path("pluggrad-acme").rglob("*")
             if path.is_file()}
    assert found == set(written("acme")) == {
        "pyproject.toml", "README.md", "LICENSE", ".gitignore", ".github/workflows/test.yml",
        "pluggrad_acme/__init__.py", "pluggrad_acme/plugin.py", "pluggrad_acme/device.py",
        "pluggrad_acme/py.typed", "tests/test_acme.py"}
    output = capsys.readouterr().out
    assert "wrote pluggrad-acme/pyproject.toml\n" in output.replace("\\", "/")
    assert "python -m pluggrad conformance acme" in output
    assert cli.main(["new-device", "acme", "--folder", "elsewhere/here"]) == 0
    assert Path("elsewhere/here/pluggrad_acme/plugin.py").is_file()


def test_the_name_stands_everywhere():
    for name, module, title in (("acme", "acme", "Acme"), ("my-chip", "my_chip", "MyChip"),
                                ("a2_b", "a2_b", "A2B")):
        made = written(name)
        project = tomllib.loads(made["pyproject.toml"])["project"]
        assert project["name"] == f"pluggrad-{name}".replace("_", "-")
        assert project["entry-points"] == {"pluggrad.devices.v1": {name: f"pluggrad_{module}.plugin"}}
        assert f"class {title}Backend(Backend):" in made[f"pluggrad_{module}/plugin.py"]
        assert f'device="{name}"' in made["README.md"]
        assert name == "acme" or not any("acme" in text.lower() for text in [*made, *made.values()])


def test_the_plugin_is_short():
    modules = [text for path, text in written("acme").items() if path.startswith("pluggrad_acme/")]
    lines = [line for text in modules for line in text.splitlines() if line.strip()]
    assert 0 < len(lines) <= MAX_PLUGIN_LINES


def test_the_generated_code_is_typed_and_clean(tmp_path):
    assert cli.main(["new-device", "acme", "--folder", str(tmp_path / "made")]) == 0
    root = Path(__file__).parents[3]
    lint = [sys.executable, "-m", "ruff", "check", "--config", str(root / "pyproject.toml"), "."]
    result = subprocess.run(lint, cwd=tmp_path / "made", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    if importlib.util.find_spec("mypy"):
        types = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "mypy"),
                 "pluggrad_acme", "tests"]
        result = subprocess.run(types, cwd=tmp_path / "made", capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("name", "suggestion"), [
    ("Acme", "Try 'acme'"), ("acme!", "Try 'acme'"), ("9lives", "Try 'lives'"), ("my chip", "Try 'my-chip'"),
    ("acme:1", "Try 'acme-1'"), ("-x", ""), ("", "got ''"), ("a__b", "Try 'a-b'"), ("../up", "Try 'up'"),
])
def test_what_is_no_name_is_refused(tmp_path, monkeypatch, capsys, name, suggestion):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new-device", "--", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: new-device: expected lower-case letters and digits")
    assert suggestion in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", known_devices().owners)
def test_a_reserved_name_is_refused(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new-device", name]) == 2
    owner = known_devices().owners[name]
    assert f"expected a name that is free, got '{name}', which belongs to {owner}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "means"), [("gpu", "cuda or metal or opencl"), ("mps", "metal")])
def test_a_name_that_means_something_else_is_refused(tmp_path, monkeypatch, capsys, name, means):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new-device", name]) == 2
    assert f"got '{name}', by which people mean {means}" in capsys.readouterr().err


def test_a_name_that_somebody_else_provides_is_refused(tmp_path, monkeypatch, capsys):
    from pluggrad.cli import new_device
    from pluggrad.device.registry import Registry
    from tests.fake_plugins.install import install

    monkeypatch.setattr(new_device, "REGISTRY", Registry([str(install(tmp_path / "site", "fake-acme"))]))
    assert cli.main(["new-device", "acme", "--folder", str(tmp_path / "made")]) == 2
    assert "got 'acme', which fake-acme 1.0 provides. Choose another" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_an_existing_folder_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pluggrad-acme").mkdir()
    Path("pluggrad-acme", "README.md").write_text("mine")
    assert cli.main(["new-device", "acme"]) == 2
    error = capsys.readouterr().err
    assert "expected a folder that does not exist yet, got pluggrad-acme. Nothing was written" in error
    assert Path("pluggrad-acme", "README.md").read_text() == "mine"
    assert len(list(Path("pluggrad-acme").iterdir())) == 1

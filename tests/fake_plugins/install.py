"""Puts fake plugins into a folder as pip would: modules, and the metadata of a distribution each.

With the folder on `sys.path` or PYTHONPATH, `importlib.metadata` finds them as it finds any distribution.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

SOURCES = Path(__file__).parent


def distributions() -> list[str]:
    """Every fake plugin, by distribution name."""
    return sorted(path.parent.name for path in SOURCES.glob("*/pyproject.toml"))


def install(folder: Path, *names: str, version: str | None = None, sources: Path = SOURCES) -> Path:
    """Install distributions from `sources` into `folder`; returns it.

    version: instead of the one in pyproject.toml.
    """
    for name in names:
        project = tomllib.loads((sources / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for package in (path.parent for path in (sources / name).glob("*/__init__.py")):
            shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"),
                            dirs_exist_ok=True)
        write_metadata(folder, name, version or project["version"], project["entry-points"])
    return folder


def write_metadata(folder: Path, name: str, version: str, groups: dict[str, dict[str, str]]) -> Path:
    """Write a .dist-info folder with METADATA and entry_points.txt."""
    stem = name.replace("-", "_")
    for old in folder.glob(f"{stem}-*.dist-info"):
        shutil.rmtree(old)
    info = folder / f"{stem}-{version}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    sections = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
                for group, points in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(sections), encoding="utf-8")
    return info

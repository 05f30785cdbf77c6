"""A virtual environment of its own, into which wheels are installed as users install them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import venv
from importlib.metadata import distribution
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

Finished = subprocess.CompletedProcess[str]


def build_wheel(project: Path, folder: Path) -> Path:
    """The wheel of a project, as `python -m build` makes it."""
    return Path(next(WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"])))


class Environment:
    """A new environment without access to the one that runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=True, symlinks=os.name != "nt")
        scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = scripts / ("python.exe" if os.name == "nt" else "python")
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = Path(self.run("-c", code).stdout.strip())

    def borrow(self, name: str) -> None:
        """Have a distribution of the environment that runs the tests, without downloading it again."""
        installed = distribution(name)
        tops = {file.parts[0] for file in installed.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            source = Path(str(installed.locate_file(top)))
            try:
                (self.site / top).symlink_to(source, target_is_directory=source.is_dir())
            except OSError:  # a system where links need a right of their own
                (shutil.copytree if source.is_dir() else shutil.copyfile)(source, self.site / top)

    def install(self, *wheels: Path) -> None:
        """Install wheels, whose requirements are there already."""
        options = ["--quiet", "--disable-pip-version-check", "--no-index"]
        result = self.run("-m", "pip", "install", *options, *map(str, wheels))
        assert result.returncode == 0, result.stdout + result.stderr

    def run(self, *args: str, cwd: Path | None = None, limit_s: float = 300, **settings: str) -> Finished:
        """Run Python there, with no checkout on its path. settings: PLUGGRAD_ variables."""
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("PYTHON", "PLUGGRAD_", "VIRTUAL_ENV"))}
        environment |= {f"PLUGGRAD_{name}": value for name, value in settings.items()}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PLUGGRAD_CACHE_DIR": str(self.folder / "cache")}
        return subprocess.run([str(self.python), *args], cwd=cwd or self.folder, env=environment,
                              capture_output=True, text=True, timeout=limit_s, check=False)


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file below a folder with its time and a digest of its content."""
    return {path.relative_to(folder).as_posix(): f"{path.stat().st_mtime_ns} {_digest(path)}"
            for path in sorted(folder.rglob("*")) if path.is_file()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

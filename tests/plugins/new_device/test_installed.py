"""The generated device and the fake plugins, installed beside a core that is a read-only wheel.

Everything runs in a virtual environment of its own, in a folder elsewhere: no checkout is on the path.
"""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_plugins.install import SOURCES, distributions
from tests.plugins.new_device.environment import Environment, build_wheel, fingerprint

ROOT = Path(__file__).parents[3]
# how a plugin that hangs is told apart is tested with the others in `zoo`: it takes its time there
FAKES = [name for name in distributions() if name != "fake-slow"]
# devices of the fake plugins -> what becomes of them
STATES = {
    "absent": "unavailable", "importerror": "failed@import", "wronghook": "failed@register",
    "wrongtype": "failed@backend", "proberaises": "failed@probe", "segfault": "crashed@probe",
    "twin": "blocked", "opencl": "shadowed", "future": "incompatible", "heavy": "ready",
    "newer": "failed@import", "demanding": "failed@backend",
}
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: cc")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Core as a read-only wheel, and wheels of the device `novel` and of the fake plugins beside it."""
    folder = tmp_path_factory.mktemp("new-device")
    environment = Environment(folder / "environment")
    for name in ("numpy", "pluggy"):
        environment.borrow(name)
    wheels = folder / "wheels"
    environment.install(build_wheel(ROOT, wheels))
    made = environment.run("-m", "pluggrad", "new-device", "novel", cwd=folder)
    assert made.returncode == 0, made.stderr
    projects = [folder / "pluggrad-novel", *(SOURCES / name for name in FAKES)]
    environment.install(*(build_wheel(project, wheels) for project in projects))
    core = environment.site / "pluggrad"
    _permit_writing(core, allowed=False)
    yield environment
    _permit_writing(core, allowed=True)


def _permit_writing(folder: Path, *, allowed: bool) -> None:
    writing = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    for path in [folder, *folder.rglob("*")]:
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IWUSR if allowed else mode & ~writing)


@pytest.fixture(autouse=True)
def untouched(place: Environment) -> Iterator[None]:
    """Nothing is written into the core, nor beside it, whatever a test does. (Root may write anywhere.)"""
    before = fingerprint(place.site / "pluggrad"), sorted(place.site.iterdir())
    yield
    assert (fingerprint(place.site / "pluggrad"), sorted(place.site.iterdir())) == before


def test_the_core_is_the_wheel_and_not_the_checkout(place):
    result = place.run("-c", "import pluggrad, sys; print(pluggrad.__file__, *sys.path, sep='\\n')")
    assert Path(result.stdout.splitlines()[0]).parent == place.site / "pluggrad"
    assert str(ROOT / "core") not in result.stdout


@needs_compiler
def test_the_generated_device_is_found_among_all_the_others(place):
    result = place.run("-m", "pluggrad", "devices", "--json")
    assert result.returncode == 0, result.stderr
    rows = {row["device"]: row for row in json.loads(result.stdout)["devices"]}
    assert rows["novel"]["state"] == "ready"
    assert (rows["novel"]["distribution"], rows["novel"]["version"]) == ("pluggrad-novel", "0.1.0")
    assert rows["novel"]["import_loads"] == []
    assert {name: rows[name]["state"] for name in STATES} == STATES


@needs_compiler
def test_it_computes(place):
    code = ("from pluggrad import Tensor\nx = Tensor([1.0, 2.0, 3.0], device='novel')\n"
            "print((x * x).sum().numpy(), x.device)")
    result = place.run("-c", code, DISABLE="site")
    assert result.stdout == "14.0 novel\n", result.stderr


def test_without_a_compiler_it_is_unavailable_and_says_what_to_do(place, monkeypatch):
    monkeypatch.setenv("PATH", str(place.folder))
    result = place.run("-c", "from pluggrad import Tensor\nTensor([1.0], device='novel')")
    assert result.returncode == 1
    assert ("device 'novel' (pluggrad-novel 0.1.0) is unavailable: there is no C compiler: 'cc' is not on "
            "the PATH    try: apt install gcc") in result.stderr


@needs_compiler
def test_what_the_compiler_refuses_is_an_error_with_its_log(place):
    code = ("from pluggrad.device.registry import toolchain, resolve\n"
            "from pluggrad.plugin_api import CompileError\n"
            "try:\n    toolchain(resolve('novel')).compile('int f( {')\n"
            "except CompileError as error:\n    print(error, error.source, 'error:' in error.log)")
    assert place.run("-c", code).stdout == "cc refused a kernel int f( { True\n"


@needs_compiler
@pytest.mark.timeout(1800)
def test_it_passes_conformance_as_generated(place):
    # each test starts the compiler, so every eighteenth case has to do here
    options = ("--every", "18", "--time-limit", "120")
    result = place.run("-m", "pluggrad", "conformance", "novel", *options, limit_s=1750)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


@needs_compiler
def test_two_generated_devices_live_side_by_side(place):
    folder = place.folder.parent / "second"
    assert place.run("-m", "pluggrad", "new-device", "my-chip", "--folder", str(folder)).returncode == 0
    wheel = build_wheel(folder, folder / "dist")
    target = place.folder / "second-site"
    options = ["--quiet", "--no-index", "--no-deps", "--target", str(target)]
    assert place.run("-m", "pip", "install", *options, str(wheel)).returncode == 0
    code = (f"import sys; sys.path.append({str(target)!r})\nfrom pluggrad import Tensor\n"
            "x = Tensor([1.0, 2.0], device='novel')\nprint((x.to('my-chip') * 2).numpy())")
    assert place.run("-c", code).stdout == "[2. 4.]\n"

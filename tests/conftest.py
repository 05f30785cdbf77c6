"""What every test shares: a private cache folder, golden text, device selection, skips by reason."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

DEVICE_GROUP = "pluggrad.devices.v1"
GOLDEN_ROOT = Path(__file__).parent / "golden"
CACHE_VARIABLE = "PLUGGRAD_CACHE_DIR"
DATA_VARIABLE = "PLUGGRAD_TEST_DATA"

cache_folder = pytest.StashKey[str]()
golden_written = pytest.StashKey[set[Path]]()

hypothesis.settings.register_profile("pluggrad", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("pluggrad")


# ---------------------------------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pluggrad")
    group.addoption(
        "--device",
        metavar="NAME[,NAME]",
        default=os.environ.get("PLUGGRAD_TEST_DEVICE"),
        help="run device tests on these only (default: PLUGGRAD_TEST_DEVICE, or all that are installed)",
    )
    group.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files under tests/golden instead of comparing with them",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "torch: compares with PyTorch; run by `make test-torch`")
    config.addinivalue_line("markers", "slow: takes more than about ten seconds")
    config.addinivalue_line("markers", "device(name): needs that device's plugin, skipped without it")
    config.stash[golden_written] = set()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts jobs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _isolate_environment(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = config.stash.get(cache_folder, None)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _isolate_environment(config: pytest.Config) -> None:
    """Drop the caller's settings and give this process, and each xdist worker, a cache folder of its own."""
    for name in list(os.environ):
        if name.startswith("PLUGGRAD_") and not name.startswith("PLUGGRAD_TEST_"):
            del os.environ[name]
    folder = tempfile.mkdtemp(prefix="pluggrad-test-cache-")
    config.stash[cache_folder] = folder
    os.environ[CACHE_VARIABLE] = folder
    os.environ["PLUGGRAD_VERIFY"] = "1"  # every plan that a test makes is checked, stage by stage


# ---------------------------------------------------------------------------------------- devices


def _installed_devices() -> list[str]:
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=DEVICE_GROUP)})


def _selected_devices(config: pytest.Config) -> list[str]:
    chosen = config.getoption("--device")
    return [name.strip() for name in chosen.split(",") if name.strip()] if chosen else _installed_devices()


def pytest_report_header(config: pytest.Config) -> str:
    return f"pluggrad devices: {', '.join(_selected_devices(config)) or 'none'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `device_name` runs once on every selected device."""
    if "device_name" in metafunc.fixturenames:
        metafunc.parametrize("device_name", _selected_devices(metafunc.config))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch: make test-torch")
    for marker in item.iter_markers("device"):
        name = marker.args[0]
        if name not in _installed_devices():
            pytest.skip(f"device {name!r} is not installed")
        if name.partition(":")[0] not in {d.partition(":")[0] for d in _selected_devices(item.config)}:
            pytest.skip(f"device {name!r} was not selected by --device")


# ---------------------------------------------------------------------------------------- golden text


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`golden(text, stage="kernel")` compares text with tests/golden/<stage>/<test name>.txt.

    `name` tells several texts of one test apart. With --update-golden the file is written instead.
    """

    def check(text: str, *, stage: str, name: str | None = None) -> None:
        stem = request.node.name if name is None else f"{request.node.name}-{name}"
        path = GOLDEN_ROOT / stage / (re.sub(r"[^\w.-]+", "-", stem).strip("-") + ".txt")
        written = request.config.stash[golden_written]
        if path in written:
            pytest.fail(f"two texts in this run are both called {path.name}: give one a name of its own")
        written.add(path)
        actual = text if text.endswith("\n") else text + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual, encoding="utf-8", newline="\n")
            return
        if not path.exists():
            pytest.fail(f"no golden text {path}: read the new text, then run again with --update-golden")
        expected = path.read_text(encoding="utf-8")
        if actual != expected:
            diff = difflib.unified_diff(
                expected.splitlines(), actual.splitlines(), str(path), "this run", lineterm=""
            )
            pytest.fail("\n".join([*diff, "", "if the change is meant: --update-golden"]), pytrace=False)

    return check


# ---------------------------------------------------------------------------------------- skips by reason


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ").strip() or "no reason given"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(_skip_reason(report) for report in terminalreporter.stats.get("skipped", []))
    terminalreporter.section("skips by reason")
    for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        terminalreporter.write_line(f"{count:6d}  {reason}")
    terminalreporter.write_line(f"{reasons.total():6d}  in all")


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty on-disk cache folder for one test and the processes that it starts."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def mnist_10k() -> Path:
    """The folder mnist-10k of PLUGGRAD_TEST_DATA: 10,000 images and labels of MNIST as one pair of files."""
    place = os.environ.get(DATA_VARIABLE)
    if not place:
        pytest.skip(f"needs data: {DATA_VARIABLE} names a folder that holds mnist-10k")
    folder = Path(place).resolve() / "mnist-10k"
    if not folder.is_dir():
        pytest.fail(f"{DATA_VARIABLE}={place} holds no folder mnist-10k", pytrace=False)
    return folder

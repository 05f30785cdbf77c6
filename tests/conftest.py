"""What every test shares: a private cache folder, golden text, device selection, skips by reason."""

from __future__ import annotations

import difflib
import gc
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

DEVICE_GROUP = "pluggrad.devices.v1"
TESTS = Path(__file__).parent
GOLDEN_ROOT = TESTS / "golden"
CACHE_VARIABLE = "PLUGGRAD_CACHE_DIR"
# the same folder for every worker: what one compiles, the others load
SHARED_CACHE_VARIABLE = "PLUGGRAD_TEST_CACHE_DIR"
DATA_VARIABLE = "PLUGGRAD_TEST_DATA"
# what programs that tests run would write otherwise for a wide terminal, or one with colors
OF_TERMINALS = frozenset({"COLUMNS", "LINES", "FORCE_COLOR", "PYTHON_COLORS", "CLICOLOR_FORCE"})

# stages and tools that compute nothing on a device: `--only-device` leaves them out
WITHOUT_DEVICE = frozenset(
    {"architecture", "benchmarks", "golden", "plugins/extensions", "plugins/new_device", "plugins/zoo"}
    | {f"unit/{stage}" for stage in ("config", "device", "graph", "ir", "kernel", "lower", "plan", "render")}
    | {f"unit/{stage}" for stage in ("schedule", "shape", "tune")}
)
# what `--device` is where nobody says: devices whose kernels take milliseconds to compile
USUAL_DEVICES = ("cpu", "ref")

run_folder = pytest.StashKey[str]()
golden_written = pytest.StashKey[set[Path]]()

# no limits of time: other work may load the machine
hypothesis.settings.register_profile(
    "pluggrad", deadline=None, derandomize=True, database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("pluggrad")


# ---------------------------------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pluggrad")
    group.addoption(
        "--device",
        metavar="NAME[,NAME]",
        default=os.environ.get("PLUGGRAD_TEST_DEVICE"),
        help="run device tests on these only (default: PLUGGRAD_TEST_DEVICE, or "
         f"{','.join(USUAL_DEVICES)} and the tests of every installed plugin)",
    )
    group.addoption(
        "--only-device",
        metavar="NAME",
        help="run the tests that need a device, and no others, on this one, which is the default device too",
    )
    group.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files under tests/golden instead of comparing with them",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "torch: compares with PyTorch; run by `make test-torch`")
    config.addinivalue_line("markers", "interop: with scikit-learn and others; run by `make test-interop`")
    config.addinivalue_line("markers", "oclgrind: runs kernels under oclgrind; run by `make test-oclgrind`")
    config.addinivalue_line("markers", "slow: takes more than about ten seconds")
    config.addinivalue_line(
        "markers",
        "device(name): is about that device (as all tests of tests/plugins/<name> are), skipped without it",
    )
    config.stash[golden_written] = set()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts jobs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _isolate_environment(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = config.stash.get(run_folder, None)
    if folder is not None:
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)


def _isolate_environment(config: pytest.Config) -> None:
    """Drop the caller's settings, and give this run a folder of its own, which its workers share.

    It holds the cache, and temporary files: what tests make fail leaves some behind.
    """
    for name in list(os.environ):
        ours = name.startswith("PLUGGRAD_") and not name.startswith("PLUGGRAD_TEST_")
        if ours or name in OF_TERMINALS:
            del os.environ[name]
    if not hasattr(config, "workerinput"):  # a worker of xdist finds the run's folders in its environment
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # `tmp_path` is kept a while
        folder = config.stash[run_folder] = tempfile.mkdtemp(prefix="pluggrad-tests-")
        for variable, name in ((SHARED_CACHE_VARIABLE, "cache"), ("TMPDIR", "tmp")):
            os.environ[variable] = path = os.path.join(folder, name)
            os.mkdir(path, 0o700)
        tempfile.tempdir = os.environ["TMPDIR"]
    os.environ[CACHE_VARIABLE] = os.environ[SHARED_CACHE_VARIABLE]
    os.environ["POCL_CACHE_DIR"] = os.environ[SHARED_CACHE_VARIABLE]  # that OpenCL driver's work files
    os.environ["PYOPENCL_NO_CACHE"] = "1"
    os.environ["PLUGGRAD_VERIFY"] = "1"  # every plan that a test makes is checked, stage by stage
    if config.getoption("--only-device"):
        os.environ["PLUGGRAD_DEVICE"] = config.getoption("--only-device")


# ---------------------------------------------------------------------------------------- memory


@pytest.fixture(scope="module", autouse=True)
def _short_collections() -> None:
    """Let the collector pass over what earlier files have left in caches: tests collect often."""
    gc.collect()
    gc.freeze()


Drawn = list[tuple[np.random.Generator, Mapping[str, Any]]]


@pytest.fixture(scope="module", autouse=True)
def _generators(request: pytest.FixtureRequest) -> Iterator[Drawn]:
    """The file's random generators, and where they stand before its first test."""
    found = [value for value in vars(request.module).values() if isinstance(value, np.random.Generator)]
    drawn = [(generator, generator.bit_generator.state) for generator in found]
    yield drawn
    _begin_anew(drawn)  # a worker may come back to this file


def _begin_anew(drawn: Drawn) -> None:
    for generator, state in drawn:
        generator.bit_generator.state = state


@pytest.fixture(autouse=True)
def _as_in_a_fresh_process(_generators: Drawn) -> None:
    """What earlier tests built and drew changes neither what this one builds, nor what it draws."""
    _begin_anew(_generators)
    loaded = {name: sys.modules.get(f"pluggrad.{name}")
              for name in ("autograd.repeated", "runtime.expansions", "tensor.random_state")}
    if (repeated := loaded["autograd.repeated"]) is not None:
        repeated._structures.clear()
        repeated._size = 0
    if (expansions := loaded["runtime.expansions"]) is not None:
        expansions._expansions.clear()
        expansions._met.clear()
        expansions._missed = 0
    if (random_state := loaded["tensor.random_state"]) is not None:  # else its seed is the system's
        random_state.manual_seed(0)


@pytest.fixture
def settled() -> None:
    """What earlier tests left in cycles is gone before this one counts what is alive."""
    gc.collect()


# ---------------------------------------------------------------------------------------- devices


def _installed_devices() -> list[str]:
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=DEVICE_GROUP)})


def _chosen_devices(config: pytest.Config) -> list[str]:
    """The devices that options name; none where they name none."""
    chosen = config.getoption("--only-device") or config.getoption("--device") or ""
    return [name.strip() for name in chosen.split(",") if name.strip()]


def _selected_devices(config: pytest.Config) -> list[str]:
    """The devices that tests of any device run on."""
    return _chosen_devices(config) or [name for name in USUAL_DEVICES if name in _installed_devices()]


def _type(device: str) -> str:
    return re.split("[:@]", device)[0]


def pytest_report_header(config: pytest.Config) -> list[str]:
    header = [f"pluggrad devices: {', '.join(_selected_devices(config)) or 'none'}"]
    if config.getoption("--only-device"):
        header.append(f"left out, since they need no device: {', '.join(sorted(WITHOUT_DEVICE))}")
    return header


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --only-device, stages that need no device are not even imported."""
    if not config.getoption("--only-device") or not collection_path.is_relative_to(TESTS):
        return None
    return True if collection_path.relative_to(TESTS).as_posix() in WITHOUT_DEVICE else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `device_name`, or `device`, runs once on every selected device."""
    if "device_name" in metafunc.fixturenames:
        metafunc.parametrize("device_name", _selected_devices(metafunc.config))


def pytest_itemcollected(item: pytest.Item) -> None:
    """The tests of tests/plugins/<name> are about that device."""
    folders = item.path.relative_to(TESTS).parts if item.path.is_relative_to(TESTS) else ()
    if len(folders) > 2 and folders[0] == "plugins" and "/".join(folders[:2]) not in WITHOUT_DEVICE:
        item.add_marker(pytest.mark.device(folders[1]))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch: make test-torch")
    if item.get_closest_marker("interop") and importlib.util.find_spec("array_api_strict") is None:
        pytest.skip("needs array-api-strict and others: make test-interop")
    chosen = {_type(device) for device in _chosen_devices(item.config)}
    for marker in item.iter_markers("device"):
        name = marker.args[0]
        if name not in _installed_devices():
            pytest.skip(f"device {name!r} is not installed")
        if chosen and _type(name) not in chosen:
            pytest.skip(f"about device {name!r}, which was not selected")


@pytest.fixture
def other_device(device_name: str) -> str:
    """A second device beside the one under test."""
    installed = [name for name in reversed(USUAL_DEVICES) if name in _installed_devices()]
    other = next((name for name in installed if name != _type(device_name)), None)
    if other is None:
        pytest.skip("needs a second device beside the one under test")
    return other


@pytest.fixture
def side_by_side(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The selected devices, and the usual ones beside them: for programs that use several at once."""
    usual = [name for name in USUAL_DEVICES if name in _installed_devices()]
    return tuple(dict.fromkeys([*_selected_devices(request.config), *usual]))


@pytest.fixture
def device(device_name: str) -> Iterator[str]:
    """Each selected device in turn, the default one for the test."""
    import pluggrad  # here: the tests of this file run where pluggrad is not installed

    with pluggrad.device(device_name):
        yield device_name


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

"""The test harness itself: golden text, skips by reason, the cache folder, device selection."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

SAMPLE = """
import os
import pytest

def test_text(golden):
    golden("one\\ntwo", stage="kernel")

def test_folder():
    print("cache-is", os.environ["PLUGGRAD_CACHE_DIR"], os.environ.get("PLUGGRAD_DEVICE"))

@pytest.mark.parametrize("i", range(3))
def test_skipped(i):
    pytest.skip("no hardware")

@pytest.mark.device("nowhere")
def test_elsewhere():
    raise AssertionError

def test_each(device_name):
    print("device", device_name)
"""


@pytest.fixture
def sample(tmp_path):
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    (tmp_path / "tests" / "test_sample.py").write_text(SAMPLE)
    return tmp_path


def run_pytest(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments, "tests"]
    environment = {**os.environ, "PLUGGRAD_DEVICE": "nowhere"}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return result.stdout + result.stderr


def test_golden_text_is_written_on_request_only_and_compared(sample):
    file = sample / "tests" / "golden" / "kernel" / "test_text.txt"
    assert "no golden text" in run_pytest(sample, "-k", "text")
    assert not file.exists()
    assert "1 passed" in run_pytest(sample, "-k", "text", "--update-golden")
    assert file.read_text() == "one\ntwo\n"
    assert "1 passed" in run_pytest(sample, "-k", "text")
    file.write_text("one\nthree\n")
    output = run_pytest(sample, "-k", "text")
    assert "-three" in output
    assert "+two" in output


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_skips_are_counted_by_reason(sample, workers):
    lines = [line.strip() for line in run_pytest(sample, "-k", "skipped or elsewhere", *workers).splitlines()]
    assert "3  no hardware" in lines
    assert "1  device 'nowhere' is not installed" in lines
    assert "4  in all" in lines


def test_the_cache_folder_is_private_and_goes_away(sample):
    output = run_pytest(sample, "-k", "folder")
    folder, device = output.partition("cache-is ")[2].split()[:2]
    assert device == "None", "the caller's settings reach the tests"
    assert folder != os.environ["PLUGGRAD_CACHE_DIR"]
    assert not Path(folder).exists()


@pytest.mark.skipif(os.name == "nt", reason="no permission bits on Windows")
def test_the_cache_folder_is_readable_by_its_owner_only():
    assert stat.S_IMODE(os.stat(os.environ["PLUGGRAD_CACHE_DIR"]).st_mode) == 0o700


def test_devices_are_selected(sample):
    output = run_pytest(sample, "-k", "each", "--device", "ref,acme")
    assert "test_each[ref]" in output
    assert "test_each[acme]" in output
    assert "2 passed" in output

"""Markers of probing in this process: only a process that died leaves one that counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pluggrad import config
from pluggrad.device import markers
from pluggrad.device.discovery import Entry

ENTRY = Entry("acme", "acme.plugin", "devices", 1, "acme-plugin", "1.0")


@pytest.fixture(autouse=True)
def folder(fresh_cache):
    config.reload()
    yield fresh_cache / "probing"
    config.reload()


def died_in_the_middle() -> int:
    """A process that ends inside the block; returns its id."""
    code = ("import os; from pluggrad.device import markers; from pluggrad.device.discovery import Entry\n"
            f"with markers.probing({ENTRY!r}): os._exit(3)")
    process = subprocess.Popen([sys.executable, "-c", code])
    assert process.wait() == 3
    return process.pid


def test_a_dead_process_is_found_until_it_is_cleared():
    assert markers.died(ENTRY) is None
    pid = died_in_the_middle()
    assert markers.died(ENTRY) == pid
    markers.clear(ENTRY)
    assert markers.died(ENTRY) is None


def test_a_marker_goes_when_the_block_ends_also_by_an_exception(folder):
    with markers.probing(ENTRY):
        assert len(list(folder.iterdir())) == 1
    with pytest.raises(SystemExit), markers.probing(ENTRY):
        raise SystemExit
    assert list(folder.iterdir()) == []


def test_a_living_process_does_not_count_and_is_not_cleared(folder):
    with markers.probing(ENTRY):
        assert markers.died(ENTRY) is None
        markers.clear(ENTRY)
        assert len(list(folder.iterdir())) == 1


def test_another_version_of_the_plugin_is_tried_again():
    died_in_the_middle()
    newer = Entry("acme", "acme.plugin", "devices", 1, "acme-plugin", "1.1")
    assert markers.died(newer) is None


def test_another_plugin_is_not_meant():
    died_in_the_middle()
    assert markers.died(Entry("acme", "x", "devices", 1, "other-plugin", "1.0")) is None


def test_a_process_of_another_machine_says_nothing(folder):
    died_in_the_middle()
    (marker,) = folder.iterdir()
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"host": "elsewhere"}))
    assert markers.died(ENTRY) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "host": 1, "version": 2}'])
def test_a_damaged_marker_is_no_marker(folder, text):
    folder.mkdir()
    (folder / "acme.acme-plugin.1.json").write_text(text)
    assert markers.died(ENTRY) is None
    markers.clear(ENTRY)


def test_without_a_disk_cache_nothing_is_written(folder, monkeypatch):
    monkeypatch.setenv("PLUGGRAD_CACHE", "0")
    config.reload()
    with markers.probing(ENTRY):
        assert not folder.exists()


def test_an_unwritable_folder_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PLUGGRAD_CACHE_DIR", str(tmp_path / "file"))
    config.reload()
    with markers.probing(ENTRY):
        pass
    assert markers.died(ENTRY) is None


@pytest.mark.skipif(sys.platform == "win32", reason="file modes")
def test_the_folders_are_private(monkeypatch, tmp_path):
    monkeypatch.setenv("PLUGGRAD_CACHE_DIR", str(tmp_path / "new"))
    config.reload()
    with markers.probing(ENTRY):
        modes = [os.stat(path).st_mode & 0o777 for path in (tmp_path / "new", tmp_path / "new" / "probing")]
    assert modes == [0o700, 0o700]

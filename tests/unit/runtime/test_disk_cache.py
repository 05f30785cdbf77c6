"""The disk cache: what a second process finds, and folders and entries that cannot be trusted."""
from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pluggrad.device.hookspecs import KernelInfo
from pluggrad.errors import PluggradWarning
from pluggrad.kernel.kernel import IndexCheck
from pluggrad.plan import BufferRef, PlannedLaunch, PlannedOutput
from pluggrad.runtime import cache
from pluggrad.runtime.compiled import CompiledPlan, load_plan, store_plan

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes of folders are POSIX's")
PROGRAM = """
import json, sys
from pluggrad import Tensor
from pluggrad.runtime import GlobalCounters
x = Tensor([[float(i * j % 7) for j in range(33)] for i in range(9)], device=sys.argv[1])
y = ((x @ x.T).softmax(axis=1) + 1.5).sum(axis=0)
print(json.dumps([GlobalCounters.snapshot(), [round(v, 4) for v in y.tolist()]]))
print(json.dumps(GlobalCounters.snapshot()))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache folder of this process, for one test."""
    path = tmp_path / "cache"
    monkeypatch.setattr(cache.config, "cache_dir", lambda: path)
    monkeypatch.setattr(cache, "_judged", {})
    return path


def start(folder: Path, device: str) -> subprocess.Popen:
    environment = {**os.environ, "PLUGGRAD_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", PROGRAM, device]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[dict[str, int], list[float]]:
    """Counters and values."""
    lines = process.communicate(timeout=300)[0].splitlines()
    assert process.returncode == 0
    return json.loads(lines[1]), json.loads(lines[0])[1]


def entries(folder: Path, kind: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith(f"{kind}-"))


def test_a_second_process_schedules_and_compiles_nothing(device_name, tmp_path):
    first, expected = finish(start(tmp_path / "cache", device_name))
    assert first["scheduled"] > 0
    assert first["compiled"] > 0
    second, values = finish(start(tmp_path / "cache", device_name))
    assert (second["scheduled"], second["compiled"]) == (0, 0)
    assert second["plan_disk_hits"] == first["scheduled"]
    assert values == expected


def test_damaged_entries_are_made_again(device_name, tmp_path):
    folder = tmp_path / "cache"
    _, expected = finish(start(folder, device_name))
    for kind, damage in (("plan", b""), ("kernel", b"x"), ("blob", b"0123\nrest")):
        for path in entries(folder, kind):
            path.write_bytes(damage if kind != "blob" else path.read_bytes()[:-1])
    counters, values = finish(start(folder, device_name))
    assert counters["compiled"] > 0
    assert values == expected
    counters, values = finish(start(folder, device_name))
    assert counters["compiled"] == 0
    assert values == expected


def test_processes_may_write_at_once(device_name, tmp_path):
    running = [start(tmp_path / "cache", device_name) for _ in range(3)]
    results = [finish(process)[1] for process in running]
    assert results[1:] == results[:-1]
    assert not entries(tmp_path / "cache", "new")
    assert finish(start(tmp_path / "cache", device_name))[0]["compiled"] == 0


def test_an_entry_comes_back_as_it_was_written(folder):
    cache.store("plan", "a", b"line\nline")
    assert cache.load("plan", "a") == b"line\nline"
    assert cache.load("plan", "b") is None
    assert cache.load("kernel", "a") is None


def test_a_plan_comes_back_with_its_checks(folder):
    args = (BufferRef("output", 0), BufferRef("status", 0, 8))
    checks = (IndexCheck("gather", 1, 7), IndexCheck("index", 0, 3))
    infos = (KernelInfo("k0", "gather_4", "out float32[4]", "0 PARALLEL 4", 4, 32),)
    plan = CompiledPlan((), infos, (), (PlannedLaunch(0, args, (), 1.5, True),), (PlannedOutput(4),),
                        (BufferRef("output", 0),), 64, checks)
    store_plan("key", plan)
    assert load_plan("key") == plan


@pytest.mark.parametrize("damage", [b"", b"\n", b"line\nline", None])
def test_a_damaged_entry_is_a_miss_and_goes_away(folder, damage):
    cache.store("plan", "a", b"line\nline")
    path = folder / "plan-a"
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    assert cache.load("plan", "a") is None
    assert not path.exists()


def test_a_folder_that_cannot_be_written_warns_once(folder):
    folder.write_text("a file stands here")
    with pytest.warns(PluggradWarning, match="PLUGGRAD_CACHE_DIR"):
        assert cache.load("plan", "a") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.store("plan", "a", b"x")
        assert cache.load("plan", "a") is None


@POSIX
def test_the_folder_is_private(folder):
    cache.store("plan", "a", b"x")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@POSIX
def test_a_folder_that_was_open_to_all_is_closed(folder):
    folder.mkdir()
    folder.chmod(0o777)
    cache.store("plan", "a", b"x")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert cache.load("plan", "a") == b"x"


@POSIX
def test_another_users_folder_is_not_used(folder, monkeypatch):
    folder.mkdir()
    owner = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: owner)
    with pytest.warns(PluggradWarning, match="belongs to another user"):
        cache.store("plan", "a", b"x")
    assert list(folder.iterdir()) == []


@POSIX
def test_another_users_entry_is_not_loaded(folder, monkeypatch):
    cache.store("plan", "a", b"x")
    owner = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: owner)  # of the file; the folder was judged before
    assert cache.load("plan", "a") is None


def test_the_oldest_entries_go_when_the_folder_is_full(folder, monkeypatch):
    for number in range(8):
        cache.store("plan", str(number), bytes(1000))
        os.utime(folder / f"plan-{number}", (number + 1, number + 1))
    monkeypatch.setattr(cache, "_written", 0)  # the first write of a process looks at the folder
    cache._trim(folder, 4500)
    assert {path.name for path in entries(folder, "plan")} == {f"plan-{number}" for number in (4, 5, 6, 7)}


def test_files_that_are_not_the_cache_s_stay_and_do_not_count(folder, monkeypatch):
    """Somebody may have named a folder that is not empty."""
    cache.store("plan", "a", bytes(1000))
    mine = folder / "weights.safetensors"
    mine.write_bytes(bytes(9000))
    os.utime(mine, (1, 1))
    entry = (folder / "plan-a").stat().st_size
    assert cache.usage() == (folder, 1, entry)
    monkeypatch.setattr(cache, "_written", 0)
    cache._trim(folder, entry)
    assert cache.load("plan", "a") == bytes(1000)
    monkeypatch.setattr(cache, "_written", 0)
    cache._trim(folder, 0)
    assert [path.name for path in folder.iterdir()] == [mine.name]
    assert cache.clear() == 0
    assert mine.exists()
